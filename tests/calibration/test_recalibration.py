"""Recalibration: what is fitted is what was put in, and held-out cases are calibrated by it."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

import mcdrop
from mcdrop import calibration as c
from mcdrop.metrics import functional as f


def _sharpened(number: int, power: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of which labels are drawn, times a power: calibrated at that temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(number, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return power * logits, labels


def _errors(number: int, scale: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, noise = torch.randn(2, number, generator=generator, dtype=torch.float64)
    std = 0.5 + torch.rand(number, generator=generator, dtype=torch.float64)
    return mean, std, mean + scale * std * noise


FITTED = {
    "temperature": c.Temperature,
    "vector": c.VectorScaling,
    "matrix": c.MatrixScaling,
    "histogram": c.HistogramBinning,
    "isotonic": c.IsotonicCalibration,
}


@pytest.mark.parametrize("power", [0.3, 1.0, 3.0])
def test_the_temperature_put_in_is_found(power: float) -> None:
    """Of 20,000 cases its relative standard error is about 1%; five of those."""
    logits, labels = _sharpened(20_000, power)
    fitted = c.Temperature.fit(logits=logits, labels=labels)
    assert fitted.temperature == pytest.approx(power, rel=0.05)
    again = c.Temperature.fit(probs=logits.softmax(1), labels=labels)
    assert again.temperature == pytest.approx(fitted.temperature, rel=1e-4)


def test_no_temperature_of_a_fine_grid_is_better() -> None:
    logits, labels = _sharpened(2000, 3.0)
    temperatures = torch.linspace(2.0, 4.0, 2001, dtype=torch.float64)
    scores = [f.negative_log_likelihood(logits=logits / t, labels=labels) for t in temperatures]
    best = float(temperatures[int(torch.stack(scores).argmin())])
    fitted = c.Temperature.fit(logits=logits, labels=labels)
    assert fitted.temperature == pytest.approx(best, abs=1e-3)


def test_binary_predictions_have_temperatures_too() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    labels = (torch.rand(20_000, generator=generator) < logits.sigmoid()).long()
    fitted = c.Temperature.fit(logits=2.0 * logits, labels=labels)
    assert fitted.temperature == pytest.approx(2.0, rel=0.05)
    ours = fitted(logits=2.0 * logits)
    torch.testing.assert_close(ours, (2.0 * logits / fitted.temperature).sigmoid())
    torch.testing.assert_close(fitted(probs=(2.0 * logits).sigmoid()), ours)


def test_inside_and_outside_of_the_average_are_two_things() -> None:
    logits, labels = _sharpened(5000, 1.0)
    noise = torch.randn(20, 5000, 4, generator=torch.Generator().manual_seed(1)).double()
    samples = 3.0 * (logits + noise)
    inside = c.SampleTemperature.fit(logits=samples, labels=labels)
    outside = c.Temperature.fit(probs=samples.softmax(-1).mean(0), labels=labels)
    assert abs(inside.temperature / outside.temperature - 1) > 0.2
    for probs in (inside(logits=samples), outside(probs=samples.softmax(-1).mean(0))):
        assert f.expected_calibration_error(probs=probs, labels=labels) < 0.05
    temperatures = torch.linspace(0.8, 1.2, 81) * inside.temperature
    scores = [
        f.negative_log_likelihood(probs=(samples / t).softmax(-1).mean(0), labels=labels)
        for t in temperatures
    ]
    assert abs(int(torch.stack(scores).argmin()) - 40) <= 1


def test_samples_of_yes_have_temperatures_too() -> None:
    """One logit for each is two, of which the other is 0."""
    generator = torch.Generator().manual_seed(0)
    logits = 1.5 * torch.randn(2000, generator=generator, dtype=torch.float64)
    labels = (torch.rand(2000, generator=generator) < logits.sigmoid()).long()
    samples = 3.0 * (logits + torch.randn(20, 2000, generator=generator, dtype=torch.float64))
    two = torch.stack((torch.zeros_like(samples), samples), -1)
    fitted = c.SampleTemperature.fit(logits=samples, labels=labels)
    assert fitted == c.SampleTemperature.fit(logits=two, labels=labels)
    assert fitted.temperature > 1.5
    probs = fitted(logits=samples)
    torch.testing.assert_close(probs, (samples / fitted.temperature).sigmoid().mean(0))
    torch.testing.assert_close(probs, fitted(logits=two)[:, 1])
    assert fitted(logits=samples.float()).dtype == torch.float32


def test_samples_that_are_far_apart_and_right_are_left_to_vote() -> None:
    """Each right in seven cases of ten, on its own, and not sure: votes are as sharp as it gets."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (500,), generator=generator)
    votes = torch.where(
        torch.rand(50, 500, generator=generator) < 0.7,
        labels,
        torch.randint(4, (50, 500), generator=generator),
    )
    logits = 0.1 * torch.nn.functional.one_hot(votes, 4).double()
    fitted = c.SampleTemperature.fit(logits=logits, labels=labels)
    assert fitted.temperature < 0.05  # the prior of 500 cases stops it short of the limit
    shares = torch.nn.functional.one_hot(votes, 4).double().mean(0)
    torch.testing.assert_close(fitted(logits=logits), shares, rtol=0, atol=0.05)


@pytest.mark.parametrize("name", FITTED)
def test_held_out_cases_are_calibrated(name: str) -> None:
    """Too sure at 3 times the logits: an ECE of 0.2 falls to about 0.02."""
    logits, labels = _sharpened(20_000, 3.0)
    fresh, truth = _sharpened(20_000, 3.0, seed=1)
    fitted = FITTED[name].fit(probs=logits.softmax(1), labels=labels)
    given = {"probs": fresh.softmax(1)}
    before = f.expected_calibration_error(**given, labels=truth)
    after = fitted(given["probs"]) if name in ("histogram", "isotonic") else fitted(**given)
    assert before > 0.15
    assert f.expected_calibration_error(probs=after, labels=truth) < 0.025
    torch.testing.assert_close(after.sum(1), torch.ones(20_000, dtype=torch.float64))


def test_shifted_classes_need_a_bias() -> None:
    logits, labels = _sharpened(20_000, 1.0)
    moved = logits + torch.tensor([0.0, 1.0, -1.0, 0.5], dtype=torch.float64)
    scores = [
        f.negative_log_likelihood(
            probs=kind.fit(logits=moved, labels=labels)(logits=moved), labels=labels
        )
        for kind in (c.Temperature, c.VectorScaling, c.MatrixScaling)
    ]
    right = f.negative_log_likelihood(logits=logits, labels=labels)
    assert scores[0] > right + 0.05
    assert scores[1].item() == pytest.approx(right.item(), abs=2e-3)
    assert scores[2] <= scores[1] + 1e-9
    kept = c.MatrixScaling.fit(logits=moved, labels=labels, penalty=1e6)
    off = [abs(w) for i, row in enumerate(kept.weight) for j, w in enumerate(row) if i != j]
    assert max(off) < 1e-3


@pytest.mark.parametrize("kind", [c.VectorScaling, c.MatrixScaling])
def test_weights_are_found_in_inference_mode(kind: type[c.VectorScaling | c.MatrixScaling]) -> None:
    logits, labels = _sharpened(200, 2.0)
    expected = kind.fit(logits=logits, labels=labels)
    with torch.inference_mode():
        made = kind.fit(logits=logits.clone(), labels=labels.clone())
        assert made == expected
        assert made(logits=logits).is_inference()
    with torch.inference_mode():
        inferred = [tensor.clone() for tensor in (logits, labels)]
    assert kind.fit(logits=inferred[0], labels=inferred[1]) == expected
    assert logits.grad is None


@pytest.mark.parametrize("kind", [c.VectorScaling, c.MatrixScaling])
@pytest.mark.parametrize("case", ["separable", "a class that is missing"])
def test_weights_without_a_maximum_of_the_likelihood_stay(
    kind: type[c.VectorScaling | c.MatrixScaling], case: str
) -> None:
    """The gradient of the penalised loss is zero there, by autograd of the formula."""
    logits, labels = _sharpened(300, 2.0)
    labels = logits.argmax(1) if case == "separable" else labels % 3
    fitted = kind.fit(logits=logits, labels=labels)
    start = torch.eye(4).double() if kind is c.MatrixScaling else torch.ones(4).double()
    weight, bias = (
        torch.tensor(field, dtype=torch.float64).requires_grad_()
        for field in (fitted.weight, fitted.bias)
    )
    scores = logits @ weight.T if kind is c.MatrixScaling else logits * weight
    prior = ((weight - start).square().sum() + bias.square().sum()) / 200
    loss = torch.nn.functional.cross_entropy(scores + bias, labels) + prior / 300
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert gradient.abs().max() < 1e-6
    assert weight.detach().abs().max() < 100


def test_the_isotonic_map_is_scikit_learns() -> None:
    logits, labels = _sharpened(500, 3.0)
    probs = logits.softmax(1)
    fitted = c.IsotonicCalibration.fit(probs=probs, labels=labels)
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(probs[:, k], labels == k)
        .predict(probs[:, k])
        for k in range(4)
    ]
    mapped = np.stack(columns, 1)
    np.testing.assert_allclose(fitted(probs), mapped / mapped.sum(1, keepdims=True), atol=1e-12)


def test_the_histogram_gives_the_frequencies() -> None:
    probs, labels = torch.tensor([0.1, 0.15, 0.9, 0.95]), torch.tensor([0, 1, 1, 1])
    fitted = c.HistogramBinning.fit(probs=probs, labels=labels, bins=5)
    assert fitted(torch.tensor([0.12, 0.5, 1.0])).tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("kind", [c.HistogramBinning, c.IsotonicCalibration])
def test_no_is_what_yes_leaves(kind: type[c.HistogramBinning | c.IsotonicCalibration]) -> None:
    """On the edges of the bins too, where no and yes would fall to different sides."""
    generator = torch.Generator().manual_seed(0)
    yes = torch.randint(11, (400,), generator=generator).double() / 10
    labels = (torch.rand(400, generator=generator) < yes**2).long()
    two = torch.stack((1.0 - yes, yes), 1)
    fitted = kind.fit(probs=yes, labels=labels)
    assert fitted == kind.fit(probs=two, labels=labels)
    got = fitted(two)
    torch.testing.assert_close(got[:, 1], fitted(yes), rtol=0, atol=0)
    torch.testing.assert_close(got[:, 0], 1.0 - got[:, 1], rtol=0, atol=0)


def test_frequencies_of_yes_are_counted_in_its_own_bins() -> None:
    """0.4 lies in (0.2, 0.4] and 0.6 in (0.4, 0.6], which mirror no bins of one another."""
    probs = torch.tensor([0.4, 0.4, 0.4, 0.4, 0.5, 0.5], dtype=torch.float64)
    labels = torch.tensor([1, 0, 0, 0, 1, 1])
    fitted = c.HistogramBinning.fit(probs=probs, labels=labels, bins=5)
    assert fitted(torch.tensor([0.4, 0.5], dtype=torch.float64)).tolist() == [0.25, 1.0]


def test_isotonic_regression_without_scikit_learn_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    probs, labels = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    with pytest.raises(mcdrop.InputError, match=r"pip install 'mcdrop\[eval\]'"):
        c.IsotonicCalibration.fit(probs=probs, labels=labels)
    knots = (((0.0, 1.0), (0.0, 0.5)),)
    assert c.IsotonicCalibration(knots)(probs)[1].item() == pytest.approx(0.45)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_deviations_are_scaled_by_what_was_put_in(scale: float) -> None:
    """Of 20,000 cases its relative standard error is 0.5%; five of those."""
    mean, std, target = _errors(20_000, scale)
    fitted = c.DeviationScaling.fit(mean, std, target)
    assert fitted.factor == pytest.approx(scale, rel=0.025)
    score = f.gaussian_negative_log_likelihood(mean, fitted(std), target)
    for other in (0.98, 1.02):
        assert score < f.gaussian_negative_log_likelihood(mean, other * fitted(std), target)


def test_quantiles_are_right_for_errors_that_are_not_normal() -> None:
    """20,000 exponential errors: shares have a standard error of 0.0035 at most, twice; five."""
    mean, std, _ = _errors(20_000, 1.0)
    errors = torch.empty(2, 20_000, dtype=torch.float64).exponential_(
        generator=torch.Generator().manual_seed(0)
    )
    fitted = c.QuantileRecalibration.fit(mean, std, mean + std * (errors[0] - 1))
    target = mean + std * (errors[1] - 1)
    for level in (0.05, 0.3, 0.5, 0.9, 0.975):
        below = (target <= fitted.quantile(mean, std, level)).double().mean()
        assert below.item() == pytest.approx(level, abs=5 * 0.005)
    plain = (target <= mean - 1.6449 * std).double().mean()
    assert plain == 0.0, "no exponential error lies there"
    covered = f.interval_coverage(*fitted.interval(mean, std, 0.9), target)
    assert covered.item() == pytest.approx(0.9, abs=5 * 0.003)


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_quantiles_of_deviations_that_are_far_off_are_repaired(factor: float) -> None:
    """20,000 and 20,000 errors in deviations of 10 to 0.1 of them: as above, five.

    With levels for places, all errors of deviations 10 times too small lie at levels 0 and 1.
    """
    mean, std, target = _errors(20_000, 1.0)
    fresh, wide, truth = _errors(20_000, 1.0, seed=1)
    fitted = c.QuantileRecalibration.fit(mean, factor * std, target)
    for level in (0.01, 0.05, 0.5, 0.9, 0.995):
        below = (truth <= fitted.quantile(fresh, factor * wide, level)).double().mean()
        assert below.item() == pytest.approx(level, abs=5 * 0.005)
    scaled = torch.tensor(fitted.places) * factor
    expected = c.QuantileRecalibration.fit(mean, std, target).places
    torch.testing.assert_close(scaled, torch.tensor(expected))


def test_normal_errors_have_normal_quantiles_however_few() -> None:
    """Errors at the quantiles of a normal distribution of deviation 3, as far as 1e-6."""
    levels = torch.arange(1, 20, dtype=torch.float64) / 20
    target = 1.0 + 3.0 * torch.special.ndtri(levels)
    mean, std = torch.ones(19).double(), torch.ones(19).double()
    fitted = c.QuantileRecalibration.fit(mean, std, target)
    for level in (1e-6, 0.001, 0.3, 0.5, 0.97, 0.9999):
        expected = 1.0 + 3.0 * statistics.NormalDist().inv_cdf(level)
        assert fitted.quantile(mean, std, level)[0].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(mcdrop.InputError, match="two held-out targets"):
        c.QuantileRecalibration.fit(mean[:1], std[:1], target[:1])


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def test_calibrators_are_numbers() -> None:
    """They go through JSON and come back the same."""
    logits, labels = _sharpened(200, 2.0)
    probs = logits.softmax(1)
    for kind in FITTED.values():
        fitted = kind.fit(probs=probs, labels=labels)
        plain = json.loads(json.dumps(dataclasses.asdict(fitted)))
        again = kind(**{name: _tuples(value) for name, value in plain.items()})
        assert hash(again) == hash(fitted)
        assert again == fitted
        ours, theirs = (
            made(probs)
            if kind in (c.HistogramBinning, c.IsotonicCalibration)
            else made(probs=probs)
            for made in (fitted, again)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_cannot_be_fitted_is_said() -> None:
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(mcdrop.InputError, match=r"no temperature is best.*sometimes wrong"):
        c.Temperature.fit(probs=sure, labels=torch.tensor([0, 1]))
    with pytest.raises(mcdrop.InputError, match=r"no temperature is best.*better than chance"):
        c.Temperature.fit(probs=sure, labels=torch.tensor([1, 0]))
    with pytest.raises(
        mcdrop.InputError, match=r"samples, \[S, N, C\].*\[S, N\] of yes; got \[2\]"
    ):
        c.SampleTemperature.fit(logits=sure[0], labels=torch.tensor([0, 1]))
    with pytest.raises(mcdrop.InputError, match="nan"):
        c.SampleTemperature.fit(
            logits=torch.stack((sure, sure * torch.nan)), labels=torch.tensor([0, 1])
        )
    with pytest.raises(mcdrop.InputError, match="two classes or more; got one"):
        c.VectorScaling.fit(probs=torch.ones(2, 1), labels=torch.tensor([0, 0]))
    many = torch.randint(2, (2, 2))
    for kind in FITTED.values():
        with pytest.raises(mcdrop.InputError, match=r"expected labels \[N\]"):
            kind.fit(probs=sure, labels=many)
    with pytest.raises(mcdrop.InputError, match="every prediction is exact"):
        c.DeviationScaling.fit(torch.zeros(2), torch.ones(2), torch.zeros(2))
    with pytest.raises(mcdrop.InputError, match="fitted on 2 classes; got 3"):
        c.VectorScaling((1.0, 1.0), (0.0, 0.0))(probs=torch.full((1, 3), 1 / 3))
    with pytest.raises(mcdrop.InputError, match="either probs"):
        c.Temperature(1.0)()
    with pytest.raises(TypeError):
        c.Temperature()  # type: ignore[call-arg]  # none is unfitted
    assert math.isfinite(c.Temperature(2.0)(probs=torch.tensor([[1.0, 0.0]])).sum())


@pytest.mark.parametrize(
    ("scale", "reason"), [(1e3, "larger than the range, 148"), (1e-4, "smaller than the range")]
)
def test_a_temperature_out_of_reach_is_told_from_none(scale: float, reason: str) -> None:
    logits, labels = _sharpened(2000, scale)
    with pytest.raises(mcdrop.InputError, match=f"the best temperature is {reason}"):
        c.Temperature.fit(logits=logits, labels=labels)
    with pytest.raises(mcdrop.InputError, match="no better than chance"):
        c.Temperature.fit(logits=-logits, labels=labels)
    with pytest.raises(mcdrop.InputError, match="no better than chance"):
        c.Temperature.fit(logits=torch.zeros(4, 3), labels=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(mcdrop.InputError, match="sometimes wrong"):
        c.Temperature.fit(logits=logits, labels=logits.argmax(1))
    alike = torch.zeros(5, 4, 3)  # of which nothing is learned
    nothing = c.SampleTemperature.fit(logits=alike, labels=torch.tensor([0, 1, 2, 0]))
    assert abs(nothing.temperature - 1.0) < 1e-4


STEP = ((0.0, 1.0), (0.0, 1.0))


@pytest.mark.parametrize(
    "make",
    [
        *(
            lambda kind=kind, value=value: kind(value)
            for kind in (c.Temperature, c.SampleTemperature, c.DeviationScaling)
            for value in (0.0, -1.0, math.nan, math.inf)
        ),
        lambda: c.VectorScaling((1.0, math.nan), (0.0, 0.0)),
        lambda: c.VectorScaling((1.0, 1.0), (0.0, math.inf)),
        lambda: c.VectorScaling((1.0, 1.0), (0.0,)),
        lambda: c.VectorScaling((), ()),
        lambda: c.VectorScaling((1.0,), (0.0,)),
        lambda: c.MatrixScaling(((1.0, 0.0),), (0.0, 0.0)),
        lambda: c.MatrixScaling(((1.0, 0.0), (1.0,)), (0.0, 0.0)),
        lambda: c.MatrixScaling(((1.0, 0.0), (0.0, math.inf)), (0.0, 0.0)),
        lambda: c.MatrixScaling(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0, 0.0)),
        lambda: c.HistogramBinning(()),
        lambda: c.HistogramBinning(((),)),
        lambda: c.HistogramBinning(((0.0, 1.1),)),
        lambda: c.HistogramBinning(((-0.1, 1.0),)),
        lambda: c.HistogramBinning(((0.0, math.nan),)),
        lambda: c.HistogramBinning(((0.0, 1.0),) * 2),
        lambda: c.HistogramBinning(((0.0, 1.0), (0.5,), (0.5,))),
        lambda: c.IsotonicCalibration(()),
        lambda: c.IsotonicCalibration((STEP,) * 2),
        lambda: c.IsotonicCalibration((((1.0, 0.0), (0.0, 1.0)),)),
        lambda: c.IsotonicCalibration((((0.0, 1.0), (1.0, 0.0)),)),
        lambda: c.IsotonicCalibration((((0.0, 1.0), (0.0, 1.1)),)),
        lambda: c.IsotonicCalibration((((0.0, 1.0), (0.0,)),)),
        lambda: c.IsotonicCalibration((((0.0, math.nan), (0.0, 1.0)),)),
        lambda: c.QuantileRecalibration(()),
        lambda: c.QuantileRecalibration((0.0,)),
        lambda: c.QuantileRecalibration((0.0, -1.0)),
        lambda: c.QuantileRecalibration((0.0, math.inf)),
    ],
)
def test_fields_that_no_fit_made_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(mcdrop.InputError):
        make()
