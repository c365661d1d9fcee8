"""How far confidence is from what it promises, in a number or two an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.errors import InputError
from mcdrop.metrics.functional import interval_coverage, reliability_curve
from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction


@dataclass(frozen=True, slots=True)
class ConfidenceGap:
    """Calibration of classes.

    Attributes:
        confidence: mean probability of the class that is predicted.
        accuracy: share of predictions that are right.
        error: the expected calibration error (ECE), which opposite gaps do not cancel in.
    """

    confidence: float
    accuracy: float
    error: float

    @property
    def gap(self) -> float:
        """How far confidence is from accuracy, in either direction."""
        return abs(self.confidence - self.accuracy)

    def to_dict(self) -> dict[str, float]:
        """By the names that a monitor records."""
        return {
            "gap": self.gap,
            "ece": self.error,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True, slots=True)
class CoverageGap:
    """Calibration of intervals.

    Attributes:
        level: share of targets that the intervals are to hold.
        coverage: share that they hold.
    """

    level: float
    coverage: float

    @property
    def gap(self) -> float:
        """How far coverage is from its level, in either direction."""
        return abs(self.coverage - self.level)

    def to_dict(self) -> dict[str, float]:
        """By the names that a monitor records."""
        return {"gap": self.gap, "coverage": self.coverage, "level": self.level}


def confidence_gap(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> ConfidenceGap:
    r"""How far mean confidence is from accuracy, and the ECE.

    .. math:: \Bigl|\tfrac1N \sum_n \max_c p_{nc} - \tfrac1N \sum_n \mathbf 1[\hat y_n = y_n]\Bigr|

    NaN where a probability is NaN or infinite, or logits are such that there is none: a training
    that went astray is to be seen, not stopped here. A logit of minus infinity leaves a class out.

    Labels of the shape of the predictions are answers of yes or no, one a label. Classes are given
    by their index: one-hot rows beside probabilities that sum to 1 are refused, as each class
    would count as a question of its own. Beside logits, which softmax and sigmoid both take, the
    two cannot be told apart.

    Args:
        probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes.
        logits: instead of `probs`.
        labels: integers: classes `[N, ...]`, or 0 and 1 of the shape of the predictions.
        bins: of the ECE, as of `mcdrop.metrics.functional.expected_calibration_error`.

    Raises:
        InputError: an argument does not fit, or the labels are one-hot.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
        >>> found = confidence_gap(probs=probs, labels=torch.tensor([0, 1]))
        >>> round(found.confidence, 4), found.accuracy, round(found.gap, 4), round(found.error, 4)
        (0.8, 0.5, 0.3, 0.4)
    """
    if _astray(probs, logits, labels):
        return ConfidenceGap(math.nan, math.nan, math.nan)
    if probs is not None and _one_hot(probs, labels):
        raise InputError(
            "labels must be class indices; got one-hot rows, beside probabilities that sum to 1: "
            "pass labels.argmax(1)"
        )
    curve = reliability_curve(probs=probs, logits=logits, labels=labels, bins=bins)
    cases = curve.count.sum()
    return ConfidenceGap(
        float(curve.confidence.sum() / cases),
        float(curve.correct.sum() / cases),
        float(curve.expected_error()),
    )


def _astray(probs: Tensor | None, logits: Tensor | None, labels: Tensor) -> bool:
    """Whether a prediction is none any more."""
    if probs is not None:
        return not bool(probs.isfinite().all())
    if logits is None:
        return False
    lost = bool(logits.isnan().any())
    if logits.shape == labels.shape or logits.ndim < 2:  # of yes: infinity is being sure
        return lost
    none_possible = (logits == -math.inf).all(1)
    return lost or bool((logits == math.inf).any() or none_possible.any())


def _one_hot(probs: Tensor, labels: Tensor) -> bool:
    """Whether every row of labels has a single 1 where every row of probabilities sums to 1."""
    if probs.shape != labels.shape or probs.ndim < 2 or probs.shape[1] < 2 or not len(probs):
        return False
    single = ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
    # rounding to float16 moves the sum of a thousand classes by less
    return bool(single and ((probs.double().sum(1) - 1.0).abs() < 1e-2).all())


def coverage_gap(
    lower: Tensor, upper: Tensor, targets: Tensor, *, level: float = 0.9
) -> CoverageGap:
    """How far the coverage of intervals is from their level; NaN where a bound or target is NaN.

    Args:
        lower: `[N, ...]`.
        upper: of that shape.
        targets: of that shape.
        level: share that the intervals are to hold.

    Raises:
        InputError: shapes differ, a lower bound is above its upper one, or the level is not between
            0 and 1.

    Example:
        >>> import torch
        >>> zero = torch.zeros(4)
        >>> coverage_gap(zero, zero + 1, torch.tensor([0.5, 0.5, 0.5, 2.0]), level=0.5).gap
        0.25
    """
    level = inside(level)
    coverage = float(interval_coverage(lower, upper, targets))
    reversed_ = int((lower > upper).sum())  # where a bound is NaN, neither is above the other
    if reversed_:
        raise InputError(
            f"lower bounds must not be above upper ones; {reversed_} of {lower.numel()} are: are "
            "the two swapped?"
        )
    lost = any(bool(each.isnan().any()) for each in (lower, upper, targets))
    return CoverageGap(level, math.nan if lost else coverage)


def prediction_gap(
    prediction: Prediction, targets: Tensor, *, level: float = 0.9, bins: int = 15
) -> ConfidenceGap | CoverageGap:
    """The gap of a Monte Carlo prediction: of confidence for classes, of coverage for numbers.

    Args:
        prediction: of `MCDropout.predict`, with its classes in axis 1.
        targets: labels `[B, ...]`, or numbers of the shape of `prediction.mean`.
        level: of the intervals.
        bins: of the ECE.

    Raises:
        InputError: the targets do not fit.
    """
    if isinstance(prediction, ClassificationPrediction):
        return confidence_gap(probs=prediction.mean, labels=targets, bins=bins)
    if isinstance(prediction, RegressionPrediction):
        lower, upper = prediction.interval(level)
        return coverage_gap(lower, upper, targets, level=level)
    raise InputError(
        f"prediction must be what MCDropout.predict gives; got {type(prediction).__name__}. Pass "
        "probabilities or scores of your own as probs=… or logits=…, intervals as intervals=…"
    )
