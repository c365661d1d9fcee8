"""Calibration of confidences against plain loops, torchmetrics and netcal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

import mcdrop
from mcdrop.metrics import functional as f
from mcdrop.metrics.functional.smooth import GRID, residuals
from tests.reference import calibration as reference

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "ece": f.expected_calibration_error,
    "mce": f.maximum_calibration_error,
    "rmsce": f.root_mean_square_calibration_error,
    "adaptive": f.adaptive_calibration_error,
}


def _classes(number: int, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2.0 * torch.randn(number, classes, generator=generator, dtype=torch.float64)
    return logits.softmax(1), torch.randint(classes, (number,), generator=generator)


def _confidence(probs: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return probs.amax(1).numpy(), (probs.argmax(1) == labels).double().numpy()


EDGES = {
    "zero and one": (torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]), torch.tensor([1, 1, 0])),
    "one row": (torch.tensor([[0.3, 0.7]]), torch.tensor([0])),
    "one class": (torch.ones(3, 1), torch.tensor([0, 0, 0])),
    "ties": (torch.tensor([[0.25, 0.75]]).expand(8, 2), torch.tensor([0, 1] * 4)),
    "on the edges": (torch.tensor([[0.6, 0.4], [0.8, 0.2], [0.2, 0.8]]), torch.tensor([0, 1, 1])),
}


@pytest.mark.parametrize("bins", [1, 5, 15, 100])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_plain_loops(name: str, bins: int) -> None:
    probs, labels = _classes(300)
    expected = getattr(reference, name)(*_confidence(probs, labels), bins)
    got = FUNCTIONS[name](probs=probs, labels=labels, bins=bins)
    assert got.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 5, 10])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("edge", EDGES)
def test_equals_plain_loops_at_the_edges(name: str, edge: str, bins: int) -> None:
    probs, labels = EDGES[edge]
    confidence, correct = _confidence(probs, labels)
    # what is 0.6 in float32 is 0.6, for the bins
    rounded = np.array([float(str(np.float32(value))) for value in confidence])
    expected = getattr(reference, name)(rounded, correct, bins)
    got = FUNCTIONS[name](probs=probs, labels=labels, bins=bins)
    assert got.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "norm"), [("ece", "l1"), ("mce", "max"), ("rmsce", "l2")])
def test_equals_torchmetrics(name: str, norm: str) -> None:
    probs, labels = _classes(2000)
    theirs = multiclass_calibration_error(probs, labels, num_classes=4, n_bins=15, norm=norm)
    ours = FUNCTIONS[name](probs=probs, labels=labels, bins=15)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_equals_netcal() -> None:
    netcal = pytest.importorskip("netcal.metrics")
    probs, labels = _classes(2000)
    for name, theirs in (("ece", netcal.ECE), ("mce", netcal.MCE)):
        expected = theirs(bins=15).measure(probs.numpy(), labels.numpy())
        ours = FUNCTIONS[name](probs=probs, labels=labels, bins=15)
        assert ours.item() == pytest.approx(float(expected), abs=1e-6)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    """torchmetrics has an extra bin for it (#3510)."""
    probs = torch.tensor([[1.0, 0.0], [0.95, 0.05]])
    curve = f.reliability_curve(probs=probs, labels=torch.tensor([0, 1]), bins=10)
    assert curve.count.tolist() == [0.0] * 9 + [2.0]


def test_binary_predictions_are_binned_by_their_confidence() -> None:
    """Sure of no is sure: binning P(yes) would call perfect predictions of no uncertain."""
    probs, labels = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    curve = f.reliability_curve(probs=probs, labels=labels, bins=10)
    assert curve.count.tolist() == [0.0] * 8 + [2.0, 0.0]
    two = torch.stack((1 - probs, probs), 1)
    for function in FUNCTIONS.values():
        as_classes = function(probs=two, labels=labels)
        torch.testing.assert_close(function(probs=probs, labels=labels), as_classes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_narrow_probabilities_are_computed_wide(dtype: torch.dtype) -> None:
    probs = torch.tensor([0.0011, 0.00012], dtype=dtype)
    labels, exact = torch.tensor([0, 0]), probs.double()
    nll = f.negative_log_likelihood(probs=probs, labels=labels).item()
    assert nll == pytest.approx(-(1 - exact).log().mean().item(), rel=1e-12)
    brier = f.brier_score(probs=probs, labels=labels).item()
    assert brier == pytest.approx(exact.square().mean().item(), rel=1e-12)


def test_multilabel_and_pixels_are_cases_of_their_own() -> None:
    probs, labels = torch.rand(6, 3), torch.randint(2, (6, 3))
    flat = f.expected_calibration_error(probs=probs.flatten(), labels=labels.flatten())
    torch.testing.assert_close(f.expected_calibration_error(probs=probs, labels=labels), flat)
    probs, labels = _classes(24)
    pixels = probs.view(2, 3, 4, 4).movedim(3, 1)
    torch.testing.assert_close(
        f.expected_calibration_error(probs=pixels, labels=labels.view(2, 3, 4)),
        f.expected_calibration_error(probs=probs, labels=labels),
    )


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_classwise_equals_plain_loops(bins: int) -> None:
    probs, labels = _classes(200)
    expected = reference.classwise(probs.numpy(), labels.numpy(), bins)
    got = f.classwise_calibration_error(probs=probs, labels=labels, bins=bins)
    assert got.item() == pytest.approx(expected, abs=1e-12)


def test_debiased_square_equals_the_formula() -> None:
    probs, labels = _classes(300)
    expected = reference.debiased_square(*_confidence(probs, labels), 15)
    got = f.debiased_calibration_error(probs=probs, labels=labels, bins=15, norm="l2")
    assert got.item() ** 2 == pytest.approx(max(0.0, expected), abs=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_debiasing_takes_off_what_chance_makes_of_calibrated_predictions(norm: str) -> None:
    """Means over 400 sets of 300 cases.

    The square is unbiased: within five of its standard errors of 0. Of the bias of the ECE, for
    normal scatter 0.80 standard deviations of each bin's accuracy, 2 · 0.80 - 1.13 = 0.47 is left.
    """
    generator = torch.Generator().manual_seed(0)
    plain, debiased = [], []
    for _ in range(400):
        p = 0.5 + 0.5 * torch.rand(300, generator=generator, dtype=torch.float64)
        y = (torch.rand(300, generator=generator) < p).long()
        confidence = p.numpy(), y.double().numpy()
        plain.append(f.expected_calibration_error(probs=p, labels=y).item())
        if norm == "l1":
            debiased.append(f.debiased_calibration_error(probs=p, labels=y, norm="l1").item())
        else:
            debiased.append(reference.debiased_square(*confidence, 15))
    if norm == "l2":
        assert abs(np.mean(debiased)) < 5 * np.std(debiased) / 20
    else:
        assert np.mean(debiased) == pytest.approx(0.47 / 0.80 * np.mean(plain), rel=0.15)


@pytest.mark.parametrize("bandwidth", [0.03, 0.1, 0.3])
def test_smoothing_equals_the_integral(bandwidth: float) -> None:
    probs, labels = _classes(40)
    confidence, correct = _confidence(probs, labels)
    sums = residuals(torch.from_numpy(confidence), torch.from_numpy(correct))
    mirrored = torch.cat((sums, sums.flip(0))) / 40
    k = torch.arange(GRID + 1) * math.pi
    spectrum = torch.fft.rfft(mirrored) * torch.exp(-0.5 * (k * bandwidth) ** 2)
    ours = torch.fft.irfft(spectrum, 2 * GRID)[:GRID].abs().sum().item()
    assert ours == pytest.approx(reference.smooth(confidence, correct, bandwidth), abs=2e-4)


def test_the_smooth_error_is_where_bandwidth_and_error_meet() -> None:
    probs, labels = _classes(60)
    found = f.smooth_calibration_error(probs=probs, labels=labels).item()
    assert reference.smooth(*_confidence(probs, labels), found) == pytest.approx(found, abs=1e-3)


def test_the_smooth_error_of_one_gap_is_that_gap() -> None:
    """Confidence 0.8, right in half of the cases: 0.3, less what the kernel lets cancel: none."""
    probs = torch.full((100,), 0.8, dtype=torch.float64)
    labels = torch.tensor([0, 1] * 50)
    assert f.smooth_calibration_error(probs=probs, labels=labels).item() == pytest.approx(
        0.3, abs=1e-3
    )


@pytest.mark.parametrize("width", [0.05, 0.4, 2.0])
def test_the_kernel_error_equals_all_pairs(width: float) -> None:
    probs, labels = _classes(150)
    expected = reference.mmce(*_confidence(probs, labels), width)
    got = f.maximum_mean_calibration_error(probs=probs, labels=labels, width=width)
    assert got.item() == pytest.approx(expected, abs=1e-9)


ALL = {
    **FUNCTIONS,
    "classwise": f.classwise_calibration_error,
    "debiased": f.debiased_calibration_error,
    "smooth": f.smooth_calibration_error,
    "mmce": f.maximum_mean_calibration_error,
    "nll": f.negative_log_likelihood,
    "brier": f.brier_score,
}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=20, deadline=None)
@given(number=st.integers(1, 40), seed=st.integers(0, 999))
def test_order_does_not_matter_and_errors_are_bounded(name: str, number: int, seed: int) -> None:
    probs, labels = _classes(number, seed=seed)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    value = ALL[name](probs=probs, labels=labels)
    if name != "adaptive":  # cuts between equal confidences
        shuffled = ALL[name](probs=probs[order], labels=labels[order])
        torch.testing.assert_close(shuffled, value, rtol=1e-9, atol=1e-9)
    limits = {"nll": (0.0, math.inf), "brier": (0.0, 2.0), "debiased": (-1.0, 1.0)}
    low, high = limits.get(name, (0.0, 1.0))
    assert low <= value.item() <= high + 1e-12


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"labels": [0]}, "either probs=… or logits="),
        ({"probs": [[0.5, 0.5]], "logits": [[0.0, 0.0]], "labels": [0]}, "either probs"),
        ({"probs": [[0.5, 0.5]], "labels": [0.0]}, "labels must be integers"),
        ({"probs": [[1, 0]], "labels": [0]}, "floating point; got int64"),
        ({"probs": [[0.5, 0.5]], "labels": [0, 1]}, r"labels \[2\] for predictions \[1, 2\]"),
        ({"probs": [[0.5, 0.5]], "labels": [2]}, "from 0 to 1; got 2 in 1 of 1"),
        ({"probs": [[2.0, -1.0]], "labels": [0]}, r"case 0 has \[2.0, -1.0\].*logits="),
        ({"probs": [[0.5, 0.2]], "labels": [0]}, "each row to sum to 1"),
        ({"probs": [[float("nan"), 1.0]], "labels": [0]}, "probabilities in"),
    ],
)
def test_bad_cases_are_told_apart(given: dict[str, list[object]], match: str) -> None:
    tensors = {name: torch.tensor(value) for name, value in given.items()}
    with pytest.raises(mcdrop.InputError, match=match):
        f.expected_calibration_error(**tensors)


@pytest.mark.parametrize("name", [*FUNCTIONS, "classwise", "debiased"])
def test_there_is_a_bin(name: str) -> None:
    probs, labels = _classes(3)
    with pytest.raises(mcdrop.InputError, match="bins=0"):
        ALL[name](probs=probs, labels=labels, bins=0)
