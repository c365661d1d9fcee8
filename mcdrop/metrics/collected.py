"""Metrics that need all cases at once, because they put them in order: memory grows with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mcdrop.errors import InputError
from mcdrop.metrics.functional import detection, reliability, selective, smooth, spread


class Collected(Metric):
    """Keeps some values of each case."""

    is_differentiable = False
    full_state_update = False
    names: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def _keep(self, *values: Tensor) -> None:
        for name, value in zip(self.names, values, strict=True):
            getattr(self, name).append(value.detach())

    def _all(self) -> list[Tensor]:
        return [dim_zero_cat(getattr(self, name)) for name in self.names]


class _Labelled(Collected):
    names = ("probs", "labels")

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch: probabilities or logits, and labels."""
        if probs is None and logits is not None:
            binary = labels.shape == logits.shape
            probs = torch.sigmoid(logits) if binary else torch.softmax(logits, 1)
        # checked here, where the batch is at hand
        reliability.reliability_curve(probs=probs, labels=labels, bins=1)
        assert probs is not None
        self._keep(probs, labels)


class AdaptiveCalibrationError(_Labelled):
    """See `functional.adaptive_calibration_error`.

    Args:
        bins: how many.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins

    def compute(self) -> Tensor:
        """A scalar, float64."""
        probs, labels = self._all()
        return reliability.adaptive_calibration_error(probs=probs, labels=labels, bins=self.bins)


class MaximumMeanCalibrationError(_Labelled):
    """See `functional.maximum_mean_calibration_error`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        probs, labels = self._all()
        return smooth.maximum_mean_calibration_error(probs=probs, labels=labels)


class _Gaussians(Collected):
    names = ("mean", "std", "target")

    def update(self, mean: Tensor, std: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        spread.probability_integral_transform(mean, std, target)  # checked where it is at hand
        self._keep(mean, std, target)


class QuantileCalibrationError(_Gaussians):
    """Root mean square error of predicted quantiles; see `functional.quantile_calibration`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        mean, std, target = self._all()
        return spread.quantile_calibration(mean, std, target).root_mean_square


class ExpectedNormalizedCalibrationError(_Gaussians):
    """See `functional.expected_normalized_calibration_error`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        mean, std, target = self._all()
        return spread.expected_normalized_calibration_error(mean, std, target)


class UncertaintyCalibrationError(_Gaussians):
    """See `functional.uncertainty_calibration_error`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        mean, std, target = self._all()
        return spread.uncertainty_calibration_error(mean, std, target)


class _Selective(Collected):
    names = ("uncertainty", "loss")
    higher_is_better = False
    function: Callable[[Tensor, Tensor], Tensor]

    def update(self, uncertainty: Tensor, loss: Tensor) -> None:
        """Take in a batch: an uncertainty and a loss for each case."""
        selective.risk_coverage(uncertainty, loss)  # checked where it is at hand
        self._keep(uncertainty, loss)

    def compute(self) -> Tensor:
        """A scalar, float64."""
        uncertainty, loss = self._all()
        return type(self).function(uncertainty, loss)


class AreaUnderRiskCoverage(_Selective):
    """See `functional.area_under_risk_coverage`.

    Example:
        >>> metric = AreaUnderRiskCoverage()
        >>> metric.update(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.0, 0.0, 1.0]))
        >>> round(metric.compute().item(), 4)
        0.1111
    """

    function = staticmethod(selective.area_under_risk_coverage)


class ExcessAreaUnderRiskCoverage(_Selective):
    """See `functional.excess_area_under_risk_coverage`."""

    function = staticmethod(selective.excess_area_under_risk_coverage)


class AreaUnderGeneralizedRiskCoverage(_Selective):
    """See `functional.area_under_generalized_risk_coverage`."""

    function = staticmethod(selective.area_under_generalized_risk_coverage)


class AreaUnderSparsificationError(_Selective):
    """See `functional.area_under_sparsification_error`."""

    function = staticmethod(selective.area_under_sparsification_error)


class _Detection(Collected):
    names = ("inside", "outside")
    function: Callable[[Tensor, Tensor], Tensor]

    def update(self, uncertainty: Tensor, outside: Tensor) -> None:
        """Take in a batch.

        Args:
            uncertainty: of each input, `[N]`.
            outside: whether it is unlike the training data, bool `[N]`.

        Raises:
            InputError: the mask is not bool, or of another shape.
        """
        if outside.dtype != torch.bool or outside.shape != uncertainty.shape:
            raise InputError(
                f"expected a bool for each uncertainty {list(uncertainty.shape)}; got "
                f"{str(outside.dtype).removeprefix('torch.')} {list(outside.shape)}"
            )
        self._keep(uncertainty[~outside], uncertainty[outside])

    def compute(self) -> Tensor:
        """A scalar, float64."""
        inside, outside = self._all()
        return type(self).function(inside, outside)


class DetectionAUROC(_Detection):
    """See `functional.detection_auroc`."""

    higher_is_better = True
    function = staticmethod(detection.detection_auroc)


class DetectionAveragePrecision(_Detection):
    """See `functional.detection_average_precision`."""

    higher_is_better = True
    function = staticmethod(detection.detection_average_precision)


class FalsePositiveRate(_Detection):
    """FPR at 95% recall; see `functional.false_positive_rate`."""

    higher_is_better = False
    function = staticmethod(detection.false_positive_rate)
