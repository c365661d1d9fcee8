"""Metrics that need all cases at once, because they put them in order: memory grows with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from mcdrop.errors import InputError
from mcdrop.metrics.functional import detection, reliability, selective, smooth, spread
from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.wide import WideMetric


class Collected(WideMetric):
    """Keeps some values of each case, flat: batches need not have one shape."""

    names: Sequence[str] = ()
    function: Callable[..., Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def _keep(self, *values: Tensor) -> None:
        for name, value in zip(self.names, values, strict=True):
            getattr(self, name).append(value.detach().flatten())

    def compute(self) -> Tensor:
        """A scalar; NaN where there is none, without cases or in a batch without any error."""
        kept = [getattr(self, name) for name in self.names]
        # after a merge over processes they are tensors already
        values = [dim_zero_cat(parts) for parts in kept if len(parts)]
        if len(values) < len(kept) or not self._is_known(*values):
            return torch.tensor(torch.nan, dtype=torch.float64, device=self.device)
        return self._figure(*values)

    def _is_known(self, *values: Tensor) -> bool:
        """Whether these cases have a figure."""
        return all(len(value) for value in values)

    def _figure(self, *values: Tensor) -> Tensor:
        return type(self).function(*values)


class _Labelled(Collected):
    names = ("confidence", "correct")

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch: probabilities or logits, and labels."""
        found = cases(probs=probs, logits=logits, labels=labels)
        self._keep(found.confidence, found.correct)


class AdaptiveCalibrationError(_Labelled):
    """See `functional.adaptive_calibration_error`.

    Args:
        bins: how many.
        kwargs: torchmetrics' own.

    Raises:
        InputError: there is to be no bin.
    """

    higher_is_better = False

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = reliability.some(bins)

    def _figure(self, *values: Tensor) -> Tensor:
        confidence, correct = values
        return reliability.adaptive_error(confidence, correct, self.bins)


class MaximumMeanCalibrationError(_Labelled):
    """See `functional.maximum_mean_calibration_error`."""

    higher_is_better = False
    function = staticmethod(smooth.kernel_error)


class _Gaussians(Collected):
    names = ("mean", "std", "target")

    def update(self, mean: Tensor, std: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        spread.probability_integral_transform(mean, std, target)  # checked where it is at hand
        self._keep(mean, std, target)


class QuantileCalibrationError(_Gaussians):
    """Root mean square error of predicted quantiles; see `functional.quantile_calibration`."""

    higher_is_better = False

    def _figure(self, *values: Tensor) -> Tensor:
        mean, std, target = values
        return spread.quantile_calibration(mean, std, target).root_mean_square


class ExpectedNormalizedCalibrationError(_Gaussians):
    """See `functional.expected_normalized_calibration_error`."""

    higher_is_better = False
    function = staticmethod(spread.expected_normalized_calibration_error)


class UncertaintyCalibrationError(_Gaussians):
    """See `functional.uncertainty_calibration_error`."""

    higher_is_better = False
    function = staticmethod(spread.uncertainty_calibration_error)


class _Selective(Collected):
    names = ("uncertainty", "loss")
    higher_is_better = False

    def update(self, uncertainty: Tensor, loss: Tensor) -> None:
        """Take in a batch: an uncertainty and a loss for each case."""
        selective.risk_coverage(uncertainty, loss)  # checked where it is at hand
        self._keep(uncertainty, loss)


class AreaUnderRiskCoverage(_Selective):
    """See `functional.area_under_risk_coverage`.

    Example:
        >>> metric = AreaUnderRiskCoverage()
        >>> metric.update(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.0, 0.0, 1.0]))
        >>> round(metric.compute().item(), 4)
        0.1111
    """

    function = staticmethod(selective.area_under_risk_coverage)


class _AgainstTheBest(_Selective):
    """Less what the order that knows the losses has."""

    def update(self, uncertainty: Tensor, loss: Tensor) -> None:
        """Take in a batch: an uncertainty and a finite loss for each case."""
        selective.finite(loss)
        super().update(uncertainty, loss)


class ExcessAreaUnderRiskCoverage(_AgainstTheBest):
    """See `functional.excess_area_under_risk_coverage`."""

    function = staticmethod(selective.excess_area_under_risk_coverage)


class AreaUnderGeneralizedRiskCoverage(_Selective):
    """See `functional.area_under_generalized_risk_coverage`."""

    function = staticmethod(selective.area_under_generalized_risk_coverage)


class AreaUnderSparsificationError(_AgainstTheBest):
    """See `functional.area_under_sparsification_error`; NaN where all errors are 0."""

    function = staticmethod(selective.area_under_sparsification_error)

    def _is_known(self, *values: Tensor) -> bool:
        return super()._is_known(*values) and bool(values[1].double().sum() > 0)


class _Detection(Collected):
    names = ("inside", "outside")

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
