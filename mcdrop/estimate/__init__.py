"""Estimates: chunks of samples folded into predictions, in any order and in flat memory."""

from __future__ import annotations

from mcdrop.estimate.classification import ClassificationEstimator
from mcdrop.estimate.moments import Moments
from mcdrop.estimate.regression import RegressionEstimator
from mcdrop.tasks import AnyTask, Gaussian, Regression

__all__ = ["ClassificationEstimator", "Estimator", "Moments", "RegressionEstimator", "estimator"]

Estimator = ClassificationEstimator | RegressionEstimator


def estimator(task: AnyTask) -> Estimator:
    """An empty estimator for a task."""
    if isinstance(task, Regression | Gaussian):
        return RegressionEstimator(task)
    return ClassificationEstimator(task)
