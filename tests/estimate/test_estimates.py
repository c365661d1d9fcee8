"""Streaming estimates against scores computed from all samples at once."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mcdrop
from mcdrop import tasks
from mcdrop.estimate import Moments, estimator
from mcdrop.estimate.classification import ClassReading
from tests.reference import uncertainty

SAMPLES, ROWS, CLASSES = 23, 5, 4
FIELDS = (
    "mean",
    "variance",
    "standard_error",
    "entropy",
    "expected_entropy",
    "mutual_information",
    "variation_ratio",
)


def _logits(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _fold(
    task: str | tasks.Task, *outputs: Tensor, chunks: tuple[int, ...] = (), block: int = 1
) -> mcdrop.Prediction:
    estimate = estimator(tasks.resolve(task), block)
    sizes = chunks or (outputs[0].shape[0],)
    start = 0
    for parts in zip(*(torch.split(out, list(sizes)) for out in outputs), strict=True):
        estimate.update(tuple(parts), start)
        start += len(parts[0])
    return estimate.prediction()


@pytest.mark.parametrize("classes", [2, 15, 16, 40])
def test_few_classes_and_many_have_torchs_softmax(classes: int) -> None:
    """Few are computed in another way, see `mcdrop.estimate.classification`."""
    logits = _logits(SAMPLES, ROWS, classes)
    logits[0] *= 1e30
    logits[1, :, 0] = -torch.inf
    logits[2] = 0.0
    reading = ClassReading(tasks.Classification())
    torch.testing.assert_close(reading.read((logits,))[0], logits.softmax(-1), rtol=1e-6, atol=1e-7)
    logits[0, 0] = torch.nan
    logits[1, 1] = -torch.inf
    found = reading.read((logits,))[0]
    assert torch.equal(found.isnan(), logits.softmax(-1).isnan())


@pytest.mark.parametrize("chunks", [(SAMPLES,), (1,) * SAMPLES, (10, 1, 12)])
def test_classification_equals_the_reference(chunks: tuple[int, ...]) -> None:
    logits = _logits(SAMPLES, ROWS, CLASSES)
    got = _fold("classification", logits, chunks=chunks).fields()
    expected = uncertainty.classification(torch.softmax(logits.double(), -1).numpy())
    for name in FIELDS:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert got["samples"].tolist() == [SAMPLES] * ROWS


@pytest.mark.parametrize(
    ("dim", "shape"), [(1, (CLASSES, 3, 2)), (2, (6, CLASSES)), (-1, (6, CLASSES))]
)
def test_the_class_axis_may_be_anywhere(dim: int, shape: tuple[int, ...]) -> None:
    logits = _logits(SAMPLES, ROWS, *shape)
    got = _fold(tasks.Classification(dim=dim), logits, chunks=(20, 3)).fields()
    axis = dim + 1 if dim > 0 else logits.ndim + dim
    last = torch.softmax(logits.double().movedim(axis, -1), -1)
    flat = uncertainty.classification(last.reshape(SAMPLES, -1, CLASSES).numpy())
    for name in FIELDS[3:]:
        np.testing.assert_allclose(got[name].flatten(), flat[name], rtol=1e-4, atol=1e-6)
    assert got["mean"].shape == logits.shape[1:]
    assert got["entropy"].shape == got["mean"].sum(axis - 1).shape


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_binary_is_two_classes(task: str) -> None:
    logits = _logits(SAMPLES, ROWS, 1 if task == "binary" else 3)
    got = _fold(task, logits).fields()
    p = torch.sigmoid(logits.double())
    pairs = torch.stack((1 - p, p), -1).reshape(SAMPLES, -1, 2).numpy()
    expected = uncertainty.classification(pairs)
    for name in FIELDS[3:]:
        np.testing.assert_allclose(got[name].flatten(), expected[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got["mean"], p.mean(0).float())


@pytest.mark.parametrize("output", ["probs", "log_probs"])
def test_links_are_said_not_guessed(output: str) -> None:
    logits = _logits(SAMPLES, ROWS, CLASSES)
    probs = torch.softmax(logits, -1)
    raw = probs if output == "probs" else probs.log()
    got = _fold(tasks.Classification(output=output), raw)
    torch.testing.assert_close(got.mean, _fold("classification", logits).mean)


def test_entropies_are_finite_at_zero_and_one() -> None:
    certain = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).expand(6, 2, 2)
    split = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    for probs in (certain, split):
        got = _fold(tasks.Classification(output="probs"), probs).fields()
        assert all(value.isfinite().all() for value in got.values())
    assert _fold(tasks.Classification(output="probs"), certain).entropy.eq(0).all()
    disagreeing = _fold(tasks.Classification(output="probs"), split)
    assert disagreeing.mutual_information.item() == pytest.approx(math.log(2))
    assert disagreeing.expected_entropy.item() == 0
    assert disagreeing.variation_ratio.item() == 0.5
    extreme = _fold("classification", torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]])).fields()
    assert all(value.isfinite().all() for value in extreme.values())
    binary = _fold("binary", torch.tensor([[[1e4]], [[-1e4]]])).fields()
    assert all(value.isfinite().all() for value in binary.values())


@pytest.mark.parametrize("layout", ["halves", "two outputs"])
def test_gaussian_splits_the_variance(layout: str) -> None:
    mean, log_variance = _logits(SAMPLES, ROWS, 2), _logits(SAMPLES, ROWS, 2, seed=1)
    if layout == "halves":
        got = _fold("gaussian", torch.cat((mean, log_variance), -1), chunks=(3, 20))
    else:
        task = tasks.Gaussian(entry="m", log_variance="v")
        got = _fold(task, mean, log_variance, chunks=(3, 20))
    assert isinstance(got, mcdrop.RegressionPrediction)
    torch.testing.assert_close(got.mean, mean.mean(0))
    torch.testing.assert_close(got.epistemic, mean.var(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.aleatoric, log_variance.exp().mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.variance, got.epistemic + got.aleatoric)
    torch.testing.assert_close(
        got.standard_error, (mean.var(0) / SAMPLES).sqrt(), rtol=1e-4, atol=1e-5
    )


def test_an_odd_gaussian_output_is_refused() -> None:
    with pytest.raises(mcdrop.InputError, match="size 3"):
        _fold("gaussian", _logits(4, ROWS, 3))


def test_regression_takes_a_known_noise_variance() -> None:
    mean = _logits(SAMPLES, ROWS, 1)
    got = _fold(tasks.Regression(noise_variance=0.25), mean)
    assert isinstance(got, mcdrop.RegressionPrediction)
    assert got.aleatoric.eq(0.25).all()
    torch.testing.assert_close(got.variance, mean.var(0) + 0.25)


def test_quantiles_and_intervals_are_those_of_the_gaussian() -> None:
    got = _fold(tasks.Regression(noise_variance=1.0), _logits(SAMPLES, ROWS, 1))
    assert isinstance(got, mcdrop.RegressionPrediction)
    low, high = got.interval(0.9)
    spread = 1.6448536 * got.variance.sqrt()
    torch.testing.assert_close(low, got.mean - spread)
    torch.testing.assert_close(high, got.mean + spread)
    torch.testing.assert_close(got.quantile(0.5), got.mean)
    for level in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(mcdrop.InputError):
            got.quantile(level)
        with pytest.raises(mcdrop.InputError):
            got.interval(level)


def test_a_single_sample_has_no_variance_and_says_so() -> None:
    got = _fold("classification", _logits(1, ROWS, CLASSES))
    assert got.variance.isnan().all()
    assert got.standard_error.isnan().all()
    assert got.mean.isfinite().all()


def test_half_precision_accumulates_in_wider_numbers() -> None:
    values = torch.full((4000, 1), 1.0009765625, dtype=torch.float16)
    moments = Moments.of(values[:1])
    assert moments.mean.dtype == torch.float32
    for row in values[1:].split(1):
        moments = moments.merge(Moments.of(row))
    assert moments.mean.item() == pytest.approx(1.0009765625, rel=1e-6)


def test_variance_survives_a_large_mean() -> None:
    """E[x²] - E[x]² would lose all digits here."""
    values = 1e4 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    moments = Moments.of(values[:300]).merge(Moments.of(values[300:]))
    torch.testing.assert_close(moments.variance(), values.double().var(0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("block", [1, 16])
def test_a_large_mean_does_not_drift_over_many_chunks(block: int) -> None:
    """Of 20,000 samples in 1,250 chunks; float32 was off by five standard errors of the mean."""
    values = 1e5 + 0.2 * torch.randn(20_000, 4, 1, generator=torch.Generator().manual_seed(0))
    total = estimator(tasks.Regression(), block)
    for start in range(0, len(values), 16):
        total.update((values[start : start + 16],), start)
    p, exact = total.prediction(), values.double().mean(0)
    assert p.mean.dtype == torch.float32
    error = values.double().std(0) / len(values) ** 0.5
    moments = total._means
    assert moments is not None
    assert ((moments.mean - exact).abs() < 0.5 * error).all()
    torch.testing.assert_close(p.mean, exact.float(), rtol=1e-7, atol=0)


@settings(max_examples=50, deadline=None)
@given(
    cuts=st.lists(st.integers(1, SAMPLES - 1), max_size=5),
    seed=st.integers(0, 99),
    block=st.sampled_from([1, 4, 16]),
)
def test_merging_in_any_order_equals_one_pass(cuts: list[int], seed: int, block: int) -> None:
    logits = _logits(SAMPLES, 2, 3, seed=seed)
    edges = [0, *sorted(set(cuts)), SAMPLES]
    parts = [logits[a:b] for a, b in pairwise(edges)]
    order = np.random.default_rng(seed).permutation(len(parts))
    total = estimator(tasks.resolve("classification"), block)
    for index in order:
        part = estimator(tasks.resolve("classification"), block)
        part.update((parts[index],), edges[index])
        total.merge(part)
    whole = _fold("classification", logits, block=block)
    for name, value in whole.fields().items():
        torch.testing.assert_close(total.prediction().fields()[name], value, rtol=1e-4, atol=1e-5)


def test_a_class_axis_that_is_not_there_is_refused() -> None:
    for dim in (0, 2, 5):
        with pytest.raises(mcdrop.InputError, match="class axis"):
            _fold(tasks.Classification(dim=dim), _logits(3, ROWS, CLASSES))
