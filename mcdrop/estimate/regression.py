"""Streaming estimates of a regression's predictive mean and variance."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.estimate.moments import Moments
from mcdrop.prediction import RegressionPrediction
from mcdrop.tasks import Gaussian, Regression

NumberTask: TypeAlias = Regression | Gaussian


class RegressionEstimator:
    """Folds chunks of raw outputs into a prediction; memory does not grow with the samples.

    Args:
        task: which part of the output is the mean, and where the noise variance comes from.
    """

    def __init__(self, task: NumberTask) -> None:
        self._task = task
        self._means: Moments | None = None
        self._noise: Moments | None = None

    def update(self, outputs: tuple[Tensor, ...]) -> None:
        """Take in a chunk: the mean `[S, B, ...]`, and the log-variance if there is one."""
        mean, noise = self._split(outputs)
        self._fold(Moments.of(mean), None if noise is None else Moments.of(noise))

    def merge(self, other: RegressionEstimator) -> None:
        """Take in another estimator's samples."""
        if other._means is not None:
            self._fold(other._means, other._noise)

    def prediction(self) -> RegressionPrediction:
        """What the samples so far say."""
        assert self._means is not None, "no samples yet"
        means = self._means
        epistemic = means.variance()
        if self._noise is not None:
            aleatoric = self._noise.mean
        else:
            assert isinstance(self._task, Regression)
            aleatoric = torch.full_like(epistemic, self._task.noise_variance)
        return RegressionPrediction(
            mean=means.mean,
            variance=epistemic + aleatoric,
            standard_error=means.standard_error(),
            samples=torch.full((means.mean.shape[0],), means.count, device=means.mean.device),
            epistemic=epistemic,
            aleatoric=aleatoric,
        )

    def _fold(self, means: Moments, noise: Moments | None) -> None:
        self._means = means if self._means is None else self._means.merge(means)
        if noise is not None:
            self._noise = noise if self._noise is None else self._noise.merge(noise)

    def _split(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        wide = [out.to(torch.promote_types(out.dtype, torch.float32)) for out in outputs]
        if isinstance(self._task, Regression):
            return wide[0], None
        if len(wide) == 2:
            if wide[0].shape != wide[1].shape:
                raise InputError(
                    f"mean and log-variance must have one shape; got {list(wide[0].shape[1:])} and "
                    f"{list(wide[1].shape[1:])}"
                )
            return wide[0], wide[1].exp()
        size = wide[0].shape[-1]
        if wide[0].ndim < 3 or size % 2:
            raise InputError(
                "a gaussian task with one output takes mean and log-variance as the halves of its "
                "last "
                f"axis; that axis has size {size if wide[0].ndim > 2 else 0}. Name the second "
                f"output "
                "with tasks.Gaussian(entry=…, log_variance=…)"
            )
        mean, log_variance = wide[0].chunk(2, -1)
        return mean, log_variance.exp()
