"""The classes: over batches, merged, copied, on every function's own terms."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

import mcdrop
from mcdrop import metrics
from mcdrop.metrics import functional as f

ROWS = 90
Batch = Mapping[str, Tensor]


def _labelled() -> Batch:
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(ROWS, 4, generator=generator).softmax(1)
    return {"probs": probs, "labels": torch.randint(4, (ROWS,), generator=generator)}


def _numbers(*names: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(ROWS, generator=generator) + 0.1 for name in names}


def _samples() -> Batch:
    generator = torch.Generator().manual_seed(3)
    samples = torch.randn(7, ROWS, generator=generator)
    return {"samples": samples, "target": torch.randn(ROWS, generator=generator)}


def _detected() -> Batch:
    generator = torch.Generator().manual_seed(2)
    outside = torch.rand(ROWS, generator=generator) < 0.4
    return {"uncertainty": torch.rand(ROWS, generator=generator), "outside": outside}


def _split(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(uncertainty: Tensor, outside: Tensor) -> Tensor:
        return function(uncertainty[~outside], uncertainty[outside])

    return call


_GAUSSIAN = _numbers("mean", "std", "target")
_MIXTURE = {
    "means": _samples()["samples"],
    "stds": torch.ones(7, ROWS),
    "target": _samples()["target"],
}
_INTERVALS = _numbers("lower", "upper", "target")
_SELECTED = _numbers("uncertainty", "loss")
# The metric, the function that it is, options of both, and all the cases.
CASES: dict[str, tuple[type[Metric], Callable[..., Any], dict[str, Any], Batch]] = {
    "ece": (
        metrics.ExpectedCalibrationError,
        f.expected_calibration_error,
        {"bins": 7},
        _labelled(),
    ),
    "mce": (metrics.MaximumCalibrationError, f.maximum_calibration_error, {}, _labelled()),
    "rmsce": (
        metrics.RootMeanSquareCalibrationError,
        f.root_mean_square_calibration_error,
        {},
        _labelled(),
    ),
    "debiased": (
        metrics.DebiasedCalibrationError,
        f.debiased_calibration_error,
        {"norm": "l1"},
        _labelled(),
    ),
    "smooth": (metrics.SmoothCalibrationError, f.smooth_calibration_error, {}, _labelled()),
    "adaptive": (metrics.AdaptiveCalibrationError, f.adaptive_calibration_error, {}, _labelled()),
    "mmce": (
        metrics.MaximumMeanCalibrationError,
        f.maximum_mean_calibration_error,
        {},
        _labelled(),
    ),
    "nll": (metrics.NegativeLogLikelihood, f.negative_log_likelihood, {}, _labelled()),
    "brier": (metrics.BrierScore, f.brier_score, {}, _labelled()),
    "gaussian nll": (
        metrics.GaussianNegativeLogLikelihood,
        f.gaussian_negative_log_likelihood,
        {},
        _GAUSSIAN,
    ),
    "mixture nll": (
        metrics.MixtureNegativeLogLikelihood,
        f.mixture_negative_log_likelihood,
        {},
        _MIXTURE,
    ),
    "gaussian crps": (metrics.GaussianCRPS, f.crps_gaussian, {}, _GAUSSIAN),
    "ensemble crps": (metrics.EnsembleCRPS, f.crps_ensemble, {"fair": True}, _samples()),
    "pinball": (
        metrics.PinballLoss,
        f.pinball_loss,
        {"level": 0.9},
        _numbers("quantile", "target"),
    ),
    "interval score": (metrics.IntervalScore, f.interval_score, {"level": 0.9}, _INTERVALS),
    "coverage": (metrics.IntervalCoverage, f.interval_coverage, {}, _INTERVALS),
    "width": (metrics.MeanIntervalWidth, f.mean_interval_width, {}, _numbers("lower", "upper")),
    "quantiles": (
        metrics.QuantileCalibrationError,
        lambda **batch: f.quantile_calibration(**batch).root_mean_square,
        {},
        _GAUSSIAN,
    ),
    "ence": (
        metrics.ExpectedNormalizedCalibrationError,
        f.expected_normalized_calibration_error,
        {},
        _GAUSSIAN,
    ),
    "uce": (
        metrics.UncertaintyCalibrationError,
        f.uncertainty_calibration_error,
        {},
        _GAUSSIAN,
    ),
    "aurc": (metrics.AreaUnderRiskCoverage, f.area_under_risk_coverage, {}, _SELECTED),
    "excess aurc": (
        metrics.ExcessAreaUnderRiskCoverage,
        f.excess_area_under_risk_coverage,
        {},
        _SELECTED,
    ),
    "augrc": (
        metrics.AreaUnderGeneralizedRiskCoverage,
        f.area_under_generalized_risk_coverage,
        {},
        _SELECTED,
    ),
    "ause": (
        metrics.AreaUnderSparsificationError,
        f.area_under_sparsification_error,
        {},
        _SELECTED,
    ),
    "auroc": (metrics.DetectionAUROC, _split(f.detection_auroc), {}, _detected()),
    "aupr": (
        metrics.DetectionAveragePrecision,
        _split(f.detection_average_precision),
        {},
        _detected(),
    ),
    "fpr95": (metrics.FalsePositiveRate, _split(f.false_positive_rate), {}, _detected()),
}
_SAMPLE_AXES = {"samples": 1, "means": 1, "stds": 1}


def _parts(batch: Batch, *edges: int) -> list[dict[str, Tensor]]:
    cuts = list(zip((0, *edges), (*edges, ROWS), strict=True))
    return [
        {
            name: value.narrow(_SAMPLE_AXES.get(name, 0), low, high - low)
            for name, value in batch.items()
        }
        for low, high in cuts
    ]


@pytest.mark.parametrize("name", CASES)
def test_batches_give_what_all_cases_give_at_once(name: str) -> None:
    kind, function, options, batch = CASES[name]
    metric = kind(**options)
    for part in _parts(batch, 1, 40, 41):
        metric.update(**part)
    expected = function(**batch, **options)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-9)
    again = pickle.loads(pickle.dumps(metric))
    torch.testing.assert_close(again.compute(), expected, rtol=1e-9, atol=1e-9)
    metric.reset()
    metric.update(**batch)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_merging_equals_one_pass(name: str) -> None:
    """As torchmetrics merges over processes."""
    kind, function, options, batch = CASES[name]
    first, second = kind(**options), kind(**options)
    early, late = _parts(batch, 37)
    first.update(**early)
    second.update(**late)
    whole = copy.deepcopy(first)
    whole.merge_state(second)
    expected = function(**batch, **options)
    torch.testing.assert_close(whole.compute(), expected, rtol=1e-9, atol=1e-9)


def test_every_metric_is_tried_here() -> None:
    kinds = {getattr(metrics, name) for name in metrics.__all__ if name != "functional"}
    tried = {kind for kind, *_ in CASES.values()}
    assert kinds - tried == {metrics.ClasswiseCalibrationError, metrics.ReliabilityMetric}


def test_classwise_errors_over_batches() -> None:
    batch = _labelled()
    metric = metrics.ClasswiseCalibrationError(classes=4, bins=5)
    for part in _parts(batch, 40):
        metric.update(**part)
    torch.testing.assert_close(
        metric.compute(), f.classwise_calibration_error(**batch, bins=5), rtol=1e-9, atol=1e-9
    )
    with pytest.raises(mcdrop.InputError, match=r"expected 4 classes.*got 2"):
        metric.update(probs=torch.full((1, 2), 0.5), labels=torch.tensor([0]))


@pytest.mark.parametrize(
    "name", ["ece", "mce", "rmsce", "debiased", "smooth", "nll", "brier", "gaussian crps"]
)
def test_memory_does_not_grow_with_the_cases(name: str) -> None:
    kind, _, options, batch = CASES[name]
    metric = kind(**options)

    def held() -> int:
        return sum(value.nbytes for value in metric.metric_state.values())

    metric.update(**batch)
    before = held()
    for _ in range(20):
        metric.update(**batch)
    assert held() == before


@pytest.mark.parametrize("name", CASES)
def test_states_stay_wide_in_a_half_precision_module(name: str) -> None:
    kind, function, options, batch = CASES[name]
    metric = kind(**options)
    module = torch.nn.Module()
    module.metric = metric
    early, late = _parts(batch, 40)
    metric.update(**early)
    module.half()
    metric.set_dtype(torch.float16)
    metric.update(**late)
    expected = function(**batch, **options)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "zero"),
    [("ause", "loss"), ("auroc", "outside"), ("aupr", "outside"), ("fpr95", "outside")],
)
def test_a_batch_without_a_figure_loses_nothing(name: str, zero: str) -> None:
    """No error at all, or none from outside: NaN of the batch, and all are still there."""
    kind, function, options, batch = CASES[name]
    bare = {**batch, zero: torch.zeros_like(batch[zero])}
    metric = kind(**options)
    metric(**batch)
    assert metric(**bare).isnan()
    both = {key: torch.cat((batch[key], bare[key])) for key in batch}
    torch.testing.assert_close(metric.compute(), function(**both), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["adaptive", "mmce"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_kept_confidences_are_as_wide_as_the_functions(name: str, dtype: torch.dtype) -> None:
    kind, function, options, _ = CASES[name]
    logits = 3.0 * torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.randint(4, (ROWS,), generator=torch.Generator().manual_seed(1))
    metric = kind(**options)
    metric.update(logits=logits, labels=labels)
    expected = function(logits=logits, labels=labels)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_batches_need_not_have_one_shape(name: str) -> None:
    """Images of several sizes: 2 of 3 x 5, and 4 of 15 x 1, as 90 cases."""
    kind, function, options, batch = CASES[name]
    metric = kind(**options)
    for part, shape in zip(_parts(batch, 30), ((2, 3, 5), (4, 15, 1)), strict=True):
        shaped = {}
        for key, value in part.items():
            axis = _SAMPLE_AXES.get(key, 0)
            spread = value.unflatten(axis, shape)
            shaped[key] = spread.movedim(-1, 1) if key == "probs" else spread
        metric.update(**shaped)
    expected = function(**batch, **options)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["excess aurc", "ause"])
def test_infinite_losses_are_refused_where_they_are_at_hand(name: str) -> None:
    with pytest.raises(mcdrop.InputError, match="losses must be finite"):
        CASES[name][0]().update(torch.rand(2), torch.tensor([1.0, torch.inf]))


def test_a_collection_keeps_sums_of_different_things_apart() -> None:
    """After a first batch in which they are equal: torchmetrics takes equal states for one."""
    kinds = {
        "nll": metrics.NegativeLogLikelihood,
        "brier": metrics.BrierScore,
    }
    both = MetricCollection({name: kind() for name, kind in kinds.items()})
    sure, even = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    both.update(probs=sure, labels=torch.tensor([0]))  # both are 0
    both.update(probs=even, labels=torch.tensor([0]))
    found = both.compute()
    assert found["nll"].item() == pytest.approx(0.5 * 0.6931, abs=1e-4)
    assert found["brier"].item() == 0.25
    levels = MetricCollection({"low": metrics.PinballLoss(0.1), "high": metrics.PinballLoss(0.9)})
    levels.update(torch.zeros(2), torch.zeros(2))
    levels.update(torch.zeros(2), torch.ones(2))
    found = levels.compute()
    assert [round(found[name].item(), 3) for name in ("low", "high")] == [0.05, 0.45]


@pytest.mark.filterwarnings("ignore:The ``compute``")
@pytest.mark.parametrize("name", CASES)
def test_no_cases_are_not_calibrated(name: str) -> None:
    kind, _, options, _ = CASES[name]
    assert kind(**options).compute().isnan()


def test_inference_mode_can_come_and_go() -> None:
    metric = metrics.ExpectedCalibrationError()
    batch = _labelled()
    with torch.inference_mode():
        metric.update(**batch)
    curve = metric.curve
    metric.update(**batch)
    assert curve.count.sum() == ROWS
    assert metric.curve.count.sum() == 2 * ROWS


@pytest.mark.parametrize("outside", [torch.tensor([0, 1, 0]), torch.tensor([True, False])])
def test_a_mask_of_numbers_is_no_mask(outside: Tensor) -> None:
    with pytest.raises(mcdrop.InputError, match="expected a bool for each"):
        metrics.DetectionAUROC().update(torch.rand(3), outside)


def test_there_is_a_bin() -> None:
    for kind in (metrics.ExpectedCalibrationError, metrics.AdaptiveCalibrationError):
        with pytest.raises(mcdrop.InputError, match="bins=0"):
            kind(bins=0)


def test_a_collection_takes_them_together() -> None:
    batch = _labelled()
    both = MetricCollection(
        {"ece": metrics.ExpectedCalibrationError(), "nll": metrics.NegativeLogLikelihood()}
    )
    both.update(**batch)
    found = both.compute()
    torch.testing.assert_close(found["ece"], f.expected_calibration_error(**batch))
    torch.testing.assert_close(found["nll"], f.negative_log_likelihood(**batch))
