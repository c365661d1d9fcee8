"""Scores of probabilities, distributions, spread, selection and detection against oracles."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch import Tensor

import mcdrop
from mcdrop.metrics import functional as f
from tests.reference import calibration as reference
from tests.reference import uncertainty


@pytest.fixture(scope="module")
def toolbox() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import uncertainty_toolbox
    return uncertainty_toolbox


@pytest.fixture(scope="module")
def netcal() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import netcal.metrics
        import netcal.metrics.regression
    return netcal.metrics


def _classes(number: int = 200, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(number, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (number,), generator=generator)


def _numbers(number: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(number, generator=generator, dtype=torch.float64)
    std = 0.5 + torch.rand(number, generator=generator, dtype=torch.float64)
    noise = torch.randn(number, generator=generator, dtype=torch.float64)
    return mean, std, mean + 1.4 * std * noise


# Probabilities.


def test_log_scores_equal_scikit_learns() -> None:
    logits, labels = _classes()
    expected = sklearn.log_loss(labels, logits.softmax(1))
    for given in ({"logits": logits}, {"probs": logits.softmax(1)}):
        got = f.negative_log_likelihood(**given, labels=labels)
        assert got.item() == pytest.approx(expected, abs=1e-9)
    yes, label = logits[:, 0], labels % 2
    expected = sklearn.log_loss(label, yes.sigmoid())
    assert f.negative_log_likelihood(logits=yes, labels=label).item() == pytest.approx(expected)


def test_log_scores_of_logits_lose_nothing() -> None:
    logits, labels = torch.tensor([[0.0, 2000.0]]), torch.tensor([0])
    assert f.negative_log_likelihood(logits=logits, labels=labels).item() == 2000.0
    assert f.negative_log_likelihood(logits=logits[:, 1], labels=labels).item() == 2000.0
    probs = logits.softmax(1)
    assert f.negative_log_likelihood(probs=probs, labels=labels).item() == math.inf


def test_brier_scores_equal_scikit_learns() -> None:
    logits, labels = _classes()
    probs, yes = logits.softmax(1), logits[:, 0].sigmoid()
    whole = sklearn.brier_score_loss(labels, probs, scale_by_half=False, labels=range(4))
    assert f.brier_score(probs=probs, labels=labels).item() == pytest.approx(whole, abs=1e-9)
    binary = sklearn.brier_score_loss(labels % 2, yes)
    assert f.brier_score(probs=yes, labels=labels % 2).item() == pytest.approx(binary, abs=1e-9)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_parts_of_a_brier_score_make_the_whole(bins: int) -> None:
    logits, labels = _classes()
    parts = f.brier_decomposition(logits=logits, labels=labels, bins=bins)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    torch.testing.assert_close(whole, f.brier_score(logits=logits, labels=labels))
    # predictions that are equal within a bin leave nothing within
    probs = torch.tensor([0.1, 0.1, 0.8, 0.8, 0.8], dtype=torch.float64)
    parts = f.brier_decomposition(probs=probs, labels=torch.tensor([0, 1, 1, 1, 0]))
    assert parts.within.item() == pytest.approx(0.0, abs=1e-12)
    assert parts.reliability.item() == pytest.approx((2 * 0.4**2 + 3 * (2 / 15) ** 2) / 5)
    assert parts.uncertainty.item() == pytest.approx(0.6 * 0.4)


# Samples.


def test_uncertainties_of_samples_equal_the_reference() -> None:
    probs = torch.randn(30, 8, 5, generator=torch.Generator().manual_seed(0)).softmax(-1)
    expected = uncertainty.classification(probs.double().numpy())
    for name, function in (
        ("entropy", f.predictive_entropy),
        ("expected_entropy", f.expected_entropy),
        ("mutual_information", f.mutual_information),
        ("variation_ratio", f.variation_ratio),
    ):
        np.testing.assert_allclose(function(probs), expected[name], atol=1e-9, err_msg=name)


def test_disagreement_is_counted_over_pairs() -> None:
    probs = torch.randn(7, 20, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    votes = probs.argmax(-1)
    pairs = [(votes[a] != votes[b]).double() for a in range(7) for b in range(7) if a != b]
    torch.testing.assert_close(f.disagreement(probs), torch.stack(pairs).mean(0))


@pytest.mark.parametrize("probs", [torch.ones(3, 2), torch.full((2, 1, 2), 1.5)])
def test_what_are_no_samples_is_refused(probs: Tensor) -> None:
    with pytest.raises(mcdrop.InputError, match=r"expected probabilities|must lie in"):
        f.predictive_entropy(probs)


@pytest.mark.parametrize(
    "function",
    [
        f.predictive_entropy,
        f.expected_entropy,
        f.mutual_information,
        f.variation_ratio,
        f.disagreement,
    ],
)
def test_what_does_not_sum_to_one_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(mcdrop.InputError, match=r"sums from 0\.75 to 1\.5"):
        function(torch.tensor([[[0.5, 0.25]], [[0.75, 0.75]]]))
    halves = torch.rand(2, 8, 100, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert function(halves.to(torch.bfloat16)).isfinite().all()


# Distributions.


def test_gaussian_scores_equal_the_toolboxs(toolbox: ModuleType) -> None:
    mean, std, target = _numbers()
    arrays = [values.numpy() for values in (mean, std, target)]
    log_score = toolbox.metrics_scoring_rule.nll_gaussian(*arrays)
    assert f.gaussian_negative_log_likelihood(mean, std, target).item() == pytest.approx(log_score)
    crps = toolbox.metrics_scoring_rule.crps_gaussian(*arrays)
    assert f.crps_gaussian(mean, std, target).item() == pytest.approx(crps, abs=1e-9)
    assert f.sharpness(std).item() == pytest.approx(
        toolbox.metrics_calibration.sharpness(arrays[1])
    )


def test_crps_without_spread_is_the_absolute_error() -> None:
    mean, _, target = _numbers()
    got = f.crps_gaussian(mean, torch.zeros_like(mean), target)
    torch.testing.assert_close(got, (mean - target).abs().mean())


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("number", [2, 3, 50])
def test_crps_of_samples_equals_all_pairs(number: int, fair: bool) -> None:
    generator = torch.Generator().manual_seed(number)
    samples = torch.randn(number, 9, 2, generator=generator, dtype=torch.float64)
    target = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    expected = reference.crps_ensemble(samples.numpy(), target.numpy(), fair)
    assert f.crps_ensemble(samples, target, fair=fair).item() == pytest.approx(expected, abs=1e-12)


def test_crps_of_samples_takes_the_memory_of_the_samples() -> None:
    """20,000 samples of 100 numbers: pairs would be 320 GB."""
    samples = torch.randn(20_000, 100, generator=torch.Generator().manual_seed(0))
    exact = f.crps_gaussian(torch.zeros(100), torch.ones(100), torch.zeros(100))
    assert f.crps_ensemble(samples, torch.zeros(100)).item() == pytest.approx(
        exact.item(), rel=0.01
    )


def test_the_mixtures_log_score_is_not_that_of_averaged_parameters() -> None:
    means = torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
    target = torch.tensor([3.0], dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)),
        torch.distributions.Normal(means[:, 0], torch.ones(2, dtype=torch.float64)),
    )
    got = f.mixture_negative_log_likelihood(means, one, target)
    torch.testing.assert_close(got, -mixture.log_prob(target).mean(), check_dtype=False)
    averaged = f.gaussian_negative_log_likelihood(means.mean(0), one.expand(1), target)
    assert averaged > got + 3.0


@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 4, 3), (5,), (1, 1, 3)])
def test_deviations_of_samples_spread_to_the_means_only(shape: tuple[int, ...]) -> None:
    """For means [4, 3], axes of their own would be averaged over, or taken for samples."""
    means, target = torch.zeros(4, 3), torch.zeros(3)
    with pytest.raises(mcdrop.InputError, match=r"spread to the means \[4, 3\]; got \["):
        f.mixture_negative_log_likelihood(means, torch.ones(shape), target)
    whole = f.mixture_negative_log_likelihood(means, torch.ones(4, 3), target)
    for fine in ((), (1,), (3,), (4, 1), (1, 3)):
        some = f.mixture_negative_log_likelihood(means, torch.ones(fine), target)
        torch.testing.assert_close(some, whole)


def test_quantile_and_interval_scores_equal_the_formulas() -> None:
    mean, std, target = _numbers()
    for level in (0.05, 0.5, 0.9):
        expected = sklearn.mean_pinball_loss(target, mean, alpha=level)
        assert f.pinball_loss(mean, target, level).item() == pytest.approx(expected, abs=1e-12)
    lower, upper = mean - std, mean + std
    alpha = 0.2
    low, high, y = lower.numpy(), upper.numpy(), target.numpy()
    missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    expected = (high - low + 2 / alpha * missed).mean()
    assert f.interval_score(lower, upper, target, 0.8).item() == pytest.approx(expected)
    # two pinball losses, of both bounds, make an interval score
    pinball = f.pinball_loss(lower, target, 0.1) + f.pinball_loss(upper, target, 0.9)
    assert f.interval_score(lower, upper, target, 0.8).item() == pytest.approx(
        2 / alpha * pinball.item()
    )


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, float("nan")])
def test_levels_lie_inside(level: float) -> None:
    with pytest.raises(mcdrop.InputError, match="strictly between"):
        f.pinball_loss(torch.zeros(2), torch.zeros(2), level)


def test_shapes_and_deviations_are_checked() -> None:
    with pytest.raises(mcdrop.InputError, match=r"one shape; got .*'std': \[3\]"):
        f.crps_gaussian(torch.zeros(2), torch.ones(3), torch.zeros(2))
    with pytest.raises(mcdrop.InputError, match="above 0"):
        f.gaussian_negative_log_likelihood(torch.zeros(2), torch.zeros(2), torch.zeros(2))
    with pytest.raises(mcdrop.InputError, match=r"samples \[S, 2\]"):
        f.crps_ensemble(torch.zeros(4, 3), torch.zeros(2))
    with pytest.raises(mcdrop.InputError, match="two samples"):
        f.crps_ensemble(torch.zeros(1, 2), torch.zeros(2), fair=True)


# Spread.


def test_quantile_calibration_equals_the_toolboxs(toolbox: ModuleType) -> None:
    mean, std, target = _numbers()
    arrays = [values.numpy() for values in (mean, std, target)]
    ours = f.quantile_calibration(mean, std, target, levels=99)
    levels, observed = toolbox.metrics_calibration.get_proportion_lists_vectorized(
        *arrays, num_bins=101, prop_type="quantile"
    )
    np.testing.assert_allclose(ours.levels, levels[1:-1], atol=1e-12)
    # its residuals are prediction less target: the upper quantiles are the lower ones
    np.testing.assert_allclose(ours.observed, 1 - np.asarray(observed)[::-1][1:-1], atol=1e-9)
    area = toolbox.metrics_calibration.miscalibration_area(
        *arrays, num_bins=101, vectorized=True, prop_type="quantile"
    )
    assert ours.area.item() == pytest.approx(area, abs=1e-6)
    inner = np.asarray(observed[1:-1]) - levels[1:-1]
    assert ours.root_mean_square.item() == pytest.approx(math.sqrt((inner**2).mean()))
    assert ours.mean_absolute.item() == pytest.approx(np.abs(inner).mean())


def test_calibrated_normals_are_calibrated() -> None:
    """20,000 of them: shares have an error of at most 0.0035; five of those."""
    mean, std, _ = _numbers(20_000)
    target = mean + std * torch.randn(20_000, generator=torch.Generator().manual_seed(3))
    found = f.quantile_calibration(mean, std, target)
    assert (found.observed - found.levels).abs().max() < 5 * 0.0035
    assert (f.pit_histogram(mean, std, target) - 0.1).abs().max() < 5 * 0.0021
    covered = f.interval_coverage(mean - 1.6449 * std, mean + 1.6449 * std, target)
    assert covered.item() == pytest.approx(0.9, abs=5 * 0.0021)


@pytest.mark.filterwarnings("ignore")
def test_errors_of_deviations_equal_netcals(netcal: ModuleType) -> None:
    """Its UCE is ours. Its ENCE has bins of equal width, of deviations, where the paper's have
    equal mass: another number."""
    mean, std, target = _numbers()
    theirs = {
        kind: float(np.squeeze(metric.measure((mean.numpy(), std.numpy()), target.numpy())))
        for kind, metric in (
            ("uce", netcal.regression.UCE(bins=10)),
            ("ence", netcal.regression.ENCE(bins=10)),
        )
    }
    uce = f.uncertainty_calibration_error(mean, std, target, bins=10).item()
    assert uce == pytest.approx(1.15577, abs=1e-5)
    assert uce == pytest.approx(theirs["uce"], abs=1e-6)
    ence = f.expected_normalized_calibration_error(mean, std, target, bins=10).item()
    assert ence == pytest.approx(
        reference.ence(std.numpy(), (mean - target).numpy(), 10), abs=1e-12
    )
    assert ence == pytest.approx(0.3987, abs=1e-4)
    assert theirs["ence"] == pytest.approx(0.3909, abs=1e-4)


@pytest.mark.parametrize(
    "function", [f.expected_normalized_calibration_error, f.uncertainty_calibration_error]
)
def test_the_order_of_equal_deviations_does_not_matter(function: Callable[..., Tensor]) -> None:
    mean, std, target = _numbers(103)
    std = (std * 3).round() / 3
    assert len(std.unique()) < 5
    value = function(mean, std, target)
    for seed in range(20):
        order = torch.randperm(103, generator=torch.Generator().manual_seed(seed))
        shuffled = function(mean[order], std[order], target[order])
        torch.testing.assert_close(shuffled, value, rtol=1e-12, atol=1e-12)


def test_equal_deviations_are_one_bin_cut_in_two() -> None:
    """Errors of 1 and 3 at one deviation: both halves have their mean square, 5."""
    zero, std = torch.zeros(4), torch.ones(4)
    target = torch.tensor([1.0, 1.0, 3.0, 3.0])
    got = f.expected_normalized_calibration_error(zero, std, target, bins=2)
    assert got.item() == pytest.approx(math.sqrt(5.0) - 1.0)


# Selection and detection.


def _cases(ties: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    uncertainty = torch.rand(60, generator=generator, dtype=torch.float64)
    if ties:
        uncertainty = (uncertainty * 4).round()
    return uncertainty, (torch.rand(60, generator=generator) < 0.3).double()


def test_risks_equal_those_of_sorted_cases() -> None:
    uncertainty, loss = _cases(ties=False)
    curve = f.risk_coverage(uncertainty, loss)
    np.testing.assert_allclose(curve.risk, reference.risks(uncertainty.numpy(), loss.numpy(), 1))
    assert f.area_under_risk_coverage(uncertainty, loss).item() == pytest.approx(curve.risk.mean())
    seen = (curve.risk * torch.arange(1, 61) / 60).mean()
    assert f.area_under_generalized_risk_coverage(uncertainty, loss).item() == pytest.approx(seen)


def test_equal_uncertainties_are_averaged_over_their_orders() -> None:
    """4,000 orders: risks have a standard error of at most 0.008; five of those."""
    uncertainty, loss = _cases(ties=True)
    expected = reference.risks(uncertainty.numpy(), loss.numpy(), 4000)
    got = f.risk_coverage(uncertainty, loss).risk
    np.testing.assert_allclose(got, expected, atol=5 * 0.008)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(f.risk_coverage(uncertainty[order], loss[order]).risk, got)


def test_the_best_order_has_no_excess() -> None:
    _, loss = _cases(ties=False)
    assert f.excess_area_under_risk_coverage(loss, loss).item() == 0.0
    assert f.area_under_sparsification_error(loss, loss).item() == 0.0
    assert f.excess_area_under_risk_coverage(-loss, loss).item() > 0.1
    assert f.area_under_sparsification_error(-loss, loss).item() > 0.1


@pytest.mark.parametrize(
    "function", [f.excess_area_under_risk_coverage, f.area_under_sparsification_error]
)
def test_infinite_losses_have_no_best_order(function: Callable[..., Tensor]) -> None:
    uncertainty, loss = torch.tensor([0.1, 0.2]), torch.tensor([0.5, torch.inf])
    with pytest.raises(mcdrop.InputError, match="losses must be finite"):
        function(uncertainty, loss)
    assert f.area_under_risk_coverage(uncertainty, loss).item() == math.inf


def test_coverage_and_risk_answer_each_other() -> None:
    uncertainty = torch.tensor([0.1, 0.2, 0.2, 0.5])
    loss = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert f.coverage_at_risk(uncertainty, loss, 0.0).item() == 0.25
    # a threshold keeps both of 0.2, with risk 1/3, or none
    assert f.coverage_at_risk(uncertainty, loss, 0.3).item() == 0.25
    assert f.coverage_at_risk(uncertainty, loss, 0.34).item() == 0.75
    assert f.coverage_at_risk(uncertainty, torch.ones(4), 0.5).item() == 0.0
    assert f.risk_at_coverage(uncertainty, loss, 0.75).item() == pytest.approx(1 / 3)
    assert f.risk_at_coverage(uncertainty, loss, 1.0).item() == 0.5
    with pytest.raises(mcdrop.InputError, match="coverage"):
        f.risk_at_coverage(uncertainty, loss, 0.0)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_detection_equals_scikit_learns(scale: float) -> None:
    """Uncertainties beyond [0, 1] are no logits."""
    generator = torch.Generator().manual_seed(0)
    inside = scale * torch.rand(80, generator=generator)
    outside = scale * (0.3 + torch.rand(50, generator=generator))
    outside[:10] = inside[:10]  # ties
    labels, values = np.r_[np.zeros(80), np.ones(50)], np.r_[inside, outside]
    assert f.detection_auroc(inside, outside).item() == pytest.approx(
        sklearn.roc_auc_score(labels, values), abs=1e-6
    )
    assert f.detection_average_precision(inside, outside).item() == pytest.approx(
        sklearn.average_precision_score(labels, values), abs=1e-6
    )
    false, true, _ = sklearn.roc_curve(labels, values, drop_intermediate=False)
    assert f.false_positive_rate(inside, outside).item() == pytest.approx(false[true >= 0.95][0])
