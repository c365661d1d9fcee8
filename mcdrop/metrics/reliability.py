"""Calibration errors of confidences, from sums over bins: memory does not grow with the cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional import reliability, smooth
from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.functional.reliability import Norm, ReliabilityCurve
from mcdrop.metrics.wide import WideMetric


class ReliabilityMetric(WideMetric):
    """Cases in bins of equal width, by the confidence of what was predicted.

    Args:
        bins: how many, closed on the right.
        kwargs: torchmetrics' own.

    Raises:
        InputError: there is to be no bin.
    """

    count: Tensor
    confidence: Tensor
    correct: Tensor

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = reliability.some(bins)
        for name in ("count", "confidence", "correct"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch.

        Args:
            probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes.
            logits: instead of `probs`.
            labels: integers.

        Raises:
            InputError: an argument does not fit.
        """
        self._add(
            reliability.reliability_curve(probs=probs, logits=logits, labels=labels, bins=self.bins)
        )

    @property
    def curve(self) -> ReliabilityCurve:
        """The bins so far."""
        return ReliabilityCurve(self.count, self.confidence, self.correct)

    def _add(self, curve: ReliabilityCurve) -> None:
        self.count = self.count + curve.count
        self.confidence = self.confidence + curve.confidence
        self.correct = self.correct + curve.correct


class ExpectedCalibrationError(ReliabilityMetric):
    """See `functional.expected_calibration_error`.

    Example:
        >>> metric = ExpectedCalibrationError(bins=10)
        >>> metric.update(probs=torch.tensor([[0.9, 0.1], [0.8, 0.2]]), labels=torch.tensor([0, 1]))
        >>> round(metric.compute().item(), 4)
        0.45
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        return self.curve.expected_error()


class MaximumCalibrationError(ReliabilityMetric):
    """See `functional.maximum_calibration_error`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        return self.curve.maximum_error()


class RootMeanSquareCalibrationError(ReliabilityMetric):
    """See `functional.root_mean_square_calibration_error`."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """A scalar, float64."""
        return self.curve.root_mean_square_error()


class DebiasedCalibrationError(ReliabilityMetric):
    """See `functional.debiased_calibration_error`.

    Args:
        bins: how many.
        norm: `"l1"` for the ECE, `"l2"` for the root mean square.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, bins: int = 15, norm: Norm = "l2", **kwargs: Any) -> None:
        super().__init__(bins, **kwargs)
        if norm not in ("l1", "l2"):
            raise InputError(f"norm must be 'l1' or 'l2'; got {norm!r}")
        self.norm: Norm = norm

    def compute(self) -> Tensor:
        """A scalar, float64."""
        return self.curve.debiased_error(self.norm)


class ClasswiseCalibrationError(ReliabilityMetric):
    """See `functional.classwise_calibration_error`.

    Args:
        classes: how many; 2 for binary predictions.
        bins: how many for each.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, classes: int, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(bins, **kwargs)
        for name in ("count", "confidence", "correct"):
            empty = torch.zeros(classes, bins, dtype=torch.float64)
            self.add_state(name, empty, dist_reduce_fx="sum")

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch; see `ReliabilityMetric.update`."""
        found = cases(probs=probs, logits=logits, labels=labels)
        if found.probs.shape[1] != len(self.count):
            raise InputError(
                f"expected {len(self.count)} classes, as this metric was made for; got "
                f"{found.probs.shape[1]}"
            )
        self._add(reliability.classwise_curves(found, self.bins))

    def compute(self) -> Tensor:
        """A scalar, float64."""
        return self.curve.expected_error().mean()


class SmoothCalibrationError(WideMetric):
    """See `functional.smooth_calibration_error`; memory does not grow with the cases."""

    higher_is_better = False
    residuals: Tensor
    number: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        empty = torch.zeros(smooth.GRID, dtype=torch.float64)
        self.add_state("residuals", empty, dist_reduce_fx="sum")
        self.add_state("number", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch; see `ReliabilityMetric.update`."""
        found = cases(probs=probs, logits=logits, labels=labels)
        self.residuals = self.residuals + smooth.residuals(found.confidence, found.correct)
        self.number = self.number + len(found.labels)

    def compute(self) -> Tensor:
        """A scalar, float64."""
        if not self.number:
            return torch.full_like(self.residuals[0], torch.nan)
        return smooth.smoothed(self.residuals, int(self.number))
