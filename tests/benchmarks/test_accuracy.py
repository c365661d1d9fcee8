"""The finder of the crossing, and the comparison of samplings, on curves whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from benchmarks import accuracy, models, sampling
from benchmarks.accuracy import crossing, median
from benchmarks.sampling import Answers


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("truth", [16, 48, 1600])
def test_the_crossing_of_a_smooth_curve(power: float, truth: int) -> None:
    errors = (0.01 * (truth / count) ** power for count in itertools.count(16, 16))
    assert crossing(errors, 0.01) == truth


def test_a_dip_is_not_a_crossing() -> None:
    assert crossing([0.9, 0.0, 0.9, 0.2, 0.1, 0.1, 0.1, 0.1], 0.5, step=10) == 40
    assert crossing([0.1, 0.1, 0.9], 0.5, step=10) == 10  # stayed so up to twice the count


def test_no_more_is_computed_than_needed() -> None:
    errors = iter([0.9, 0.1, 0.1, 0.1, 0.9])
    assert crossing(errors, 0.5, step=1) == 2
    assert next(errors) == 0.9


@pytest.mark.parametrize("errors", [[], [0.9], [0.9, 0.9, 0.1], [0.9, 0.1, 0.1]])
def test_an_error_that_does_not_stay_has_no_crossing(errors: list[float]) -> None:
    assert crossing(errors, 0.5, step=10) is None


def test_the_median_of_crossings() -> None:
    assert median([16, 48, 32]) == 32
    assert median([16, 32]) == 32  # between two steps: the next one
    assert median([16, None, 32]) == 32
    assert median([None, None, 32]) is None


def test_time_to_accuracy_of_a_small_net() -> None:
    """iid needs (sd / 1%)^2 samples for a relative sd: the median of seven runs is near it."""
    trained = models.uci_net(rows=8, epochs=5)
    found = accuracy.measure(trained, seeds=7, repeats=2)
    assert 1 / 4 < found["iid_samples"] / found["expected_iid_samples"] < 4
    assert found["default_samples"] % 16 == 0
    assert found["reference_error"] < accuracy.BOUND
    assert min(found["iid_s"], found["default_s"], found["other_s"]) > 0


def _answers(generator: np.random.Generator, seeds: int, error: float, bias: float) -> Answers:
    """Means with that error, variances of 1 + bias with an error of a tenth of it."""
    mean = error * generator.standard_normal((seeds, 5, 2))
    variance = 1.0 + bias + 0.1 * error * generator.standard_normal((seeds, 5, 2))
    return Answers(torch.from_numpy(mean), torch.from_numpy(variance))


def test_the_comparison_of_samplings_finds_what_was_put_in() -> None:
    """2,000 seeds of ten figures: a ratio of squares is within 3 x sqrt(4 / 20,000) = 4%."""
    generator = np.random.default_rng(0)
    iid, balanced = _answers(generator, 2000, 1.0, 0.0), _answers(generator, 2000, 0.5, 0.02)
    # a truth of n samples with a variance of 1 is off by 1 / n, squared: exactly so here
    truth = Answers(torch.full((1, 5, 2), 0.1), torch.ones(1, 5, 2))
    found = sampling.compare(iid, balanced, truth, samples=1, reference=100)
    assert found["mean_gain"] == pytest.approx(4.0, rel=0.04)
    assert found["mean_gain_se"] == pytest.approx(4.0 * (4 / 20_000) ** 0.5, rel=0.2)
    assert found["variance_mse"] == pytest.approx((0.05**2 + 0.02**2) / 0.1**2, rel=0.05)
    assert found["variance_bias"] == pytest.approx(0.02, abs=4 * found["variance_bias_se"])


def test_equal_samplings_compare_as_equal() -> None:
    """Seeds of a real net; iid against iid."""
    trained = models.uci_net(rows=2, epochs=5)
    mc = models.montecarlo(trained, sampling="iid")
    truth = sampling.answers(mc, trained.x, 20_000, range(10**6, 10**6 + 1))
    halves = (range(100), range(100, 200))
    one, other = (sampling.answers(mc, trained.x, 16, seeds) for seeds in halves)
    found = sampling.compare(one, other, truth, 16, 20_000)
    assert found["mean_gain"] == pytest.approx(1.0, abs=4 * found["mean_gain_se"])
    assert found["variance_bias"] == pytest.approx(0.0, abs=4 * found["variance_bias_se"])
