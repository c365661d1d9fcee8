"""Held-out figures for the demo models' manifests: pure functions of a prediction and the truth."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction

BINS = 15
LEVEL = 0.9


def classification(prediction: Prediction, classes: Tensor) -> dict[str, float]:
    r"""Accuracy, proper scores, calibration error, and entropy of right and wrong answers.

    `test_brier` is :math:`\sum_c (p_c - y_c)^2` (0 to 2; Brier 1950), `test_ece` the expected
    calibration error over 15 equal bins of confidence (Guo et al. 2017, eq. 3), entropies and
    `test_nll` are in nats.

    Args:
        prediction: of a classifier over C classes, `mean` is `[B, C]`.
        classes: the truth, int64 `[B]`.

    Raises:
        InputError: the prediction is not a classifier's.
    """
    if not isinstance(prediction, ClassificationPrediction):
        raise InputError(f"expected a classification; got {type(prediction).__name__}")
    probs = prediction.mean.double()
    confidence, answer = probs.max(-1)
    right = answer == classes
    truth = F.one_hot(classes, probs.shape[-1])
    chosen = probs.gather(-1, classes[:, None]).clamp_min(torch.finfo(torch.float32).tiny)
    scores = {
        "test_accuracy": right.double().mean(),
        "test_nll": -chosen.log().mean(),
        "test_brier": (probs - truth).square().sum(-1).mean(),
        "test_ece": expected_calibration_error(confidence, right),
        "test_entropy_right": prediction.entropy[right].mean(),
        "test_entropy_wrong": prediction.entropy[~right].mean(),
        "test_mutual_information_right": prediction.mutual_information[right].mean(),
        "test_mutual_information_wrong": prediction.mutual_information[~right].mean(),
    }
    # a mean over no rows is NaN: a model that is never wrong has no entropy of its errors
    return {name: float(value) for name, value in scores.items() if torch.isfinite(value)}


def expected_calibration_error(confidence: Tensor, right: Tensor) -> Tensor:
    r""":math:`\sum_b n_b / N \cdot |acc_b - conf_b|` over equal bins of confidence.

    Args:
        confidence: probability of the answer, `[B]`.
        right: whether it was right, bool `[B]`.

    Example:
        >>> confidence = torch.tensor([0.75, 0.75, 0.75, 0.75])
        >>> expected_calibration_error(confidence, torch.tensor([True, True, True, False])).item()
        0.0
    """
    gap = confidence.double() - right.double()
    bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
    return torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, gap).abs().sum() / len(gap)


def regression(prediction: Prediction, targets: Tensor) -> dict[str, float]:
    """Root mean squared error, NLL of the moment-matched Gaussian, coverage of its 90% interval.

    Args:
        prediction: of a regression, `mean` is `[B, D]`.
        targets: the truth, `[B, D]`.

    Raises:
        InputError: the prediction is not a regression's.
    """
    if not isinstance(prediction, RegressionPrediction):
        raise InputError(f"expected a regression; got {type(prediction).__name__}")
    targets, mean, variance = (t.double() for t in (targets, prediction.mean, prediction.variance))
    error = (targets - mean).square()
    lower, upper = prediction.interval(LEVEL)
    inside = (targets >= lower) & (targets <= upper)
    return {
        "test_rmse": float(error.mean().sqrt()),
        "test_nll": float(0.5 * (torch.log(2.0 * math.pi * variance) + error / variance).mean()),
        "test_coverage_90": float(inside.double().mean()),
        "test_interval_width_90": float((upper - lower).mean()),
    }
