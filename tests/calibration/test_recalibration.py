"""Recalibration: what is fitted is what was put in, and held-out cases are calibrated by it."""

from __future__ import annotations

import dataclasses
import json
import math

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
    assert fitted.temperature < 0.01
    shares = torch.nn.functional.one_hot(votes, 4).double().mean(0)
    torch.testing.assert_close(fitted(logits=logits), shares, rtol=0, atol=1e-4)


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


def test_calibrators_are_numbers() -> None:
    """They go through JSON and come back the same."""
    logits, labels = _sharpened(200, 2.0)
    probs = logits.softmax(1)
    for kind in FITTED.values():
        fitted = kind.fit(probs=probs, labels=labels)
        again = kind(**json.loads(json.dumps(dataclasses.asdict(fitted))))
        ours, theirs = (
            made(probs)
            if kind in (c.HistogramBinning, c.IsotonicCalibration)
            else made(probs=probs)
            for made in (fitted, again)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_cannot_be_fitted_is_said() -> None:
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(mcdrop.InputError, match="no temperature between"):
        c.Temperature.fit(probs=sure, labels=torch.tensor([0, 1]))
    with pytest.raises(mcdrop.InputError, match="no temperature between"):
        c.Temperature.fit(probs=sure, labels=torch.tensor([1, 0]))
    with pytest.raises(mcdrop.InputError, match=r"samples \[S, N, C\]; got \[2, 2\]"):
        c.SampleTemperature.fit(logits=sure, labels=torch.tensor([0, 1]))
    many = torch.randint(2, (2, 2))
    for kind in (c.Temperature, c.VectorScaling, c.MatrixScaling):
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
