"""Estimates: chunks of samples folded into predictions, in any order and in flat memory."""

from __future__ import annotations

from mcdrop.estimate.blocks import BlockMoments
from mcdrop.estimate.classification import ClassificationEstimator, ClassReading
from mcdrop.estimate.moments import Moments
from mcdrop.estimate.ragged import RaggedEstimator, RaggedMoments
from mcdrop.estimate.regression import NumberReading, RegressionEstimator
from mcdrop.tasks import AnyTask, Gaussian, Regression

__all__ = [
    "BlockMoments",
    "ClassificationEstimator",
    "Estimator",
    "Moments",
    "RaggedEstimator",
    "RaggedMoments",
    "RegressionEstimator",
    "estimator",
    "ragged_estimator",
]

Estimator = ClassificationEstimator | RegressionEstimator


def estimator(
    task: AnyTask, block: int = 1, *, analytic: bool = False, temperature: float = 1.0
) -> Estimator:
    """An empty estimator for a task.

    Args:
        task: what the outputs mean.
        block: samples of a balanced block; 1 for independent samples.
        analytic: whether the outputs are an analytic head's.
        temperature: of the logits of each sample.
    """
    if isinstance(task, Regression | Gaussian):
        return RegressionEstimator(task, block, analytic=analytic)
    assert not analytic, task
    return ClassificationEstimator(task, block, temperature)


def ragged_estimator(task: AnyTask, block: int = 1, *, temperature: float = 1.0) -> RaggedEstimator:
    """An empty estimator of rows that hold different samples; arguments as for `estimator`."""
    if isinstance(task, Regression | Gaussian):
        return RaggedEstimator(NumberReading(task), block)
    return RaggedEstimator(ClassReading(task, temperature), block)
