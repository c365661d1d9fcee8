"""Streaming estimates of a regression's predictive mean and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.estimate.blocks import BlockMoments
from mcdrop.estimate.moments import Moments
from mcdrop.prediction import RegressionPrediction
from mcdrop.tasks import Gaussian, Regression

NumberTask: TypeAlias = Regression | Gaussian


class RegressionEstimator:
    """Folds chunks of raw outputs into a prediction; memory does not grow with the samples.

    Args:
        task: which part of the output is the mean, and where the noise variance comes from.
        block: samples of a balanced block; 1 for independent samples.
        analytic: whether each sample is the conditional mean of an analytic head, and its second
            output the conditional variance.
    """

    def __init__(self, task: NumberTask, block: int = 1, *, analytic: bool = False) -> None:
        self._reading = NumberReading(task)
        self._block = block
        self._analytic = analytic
        self._means: BlockMoments | None = None
        self._noise: Moments | None = None
        self._within: Moments | None = None
        self._dtype = torch.float32

    def update(self, outputs: tuple[Tensor, ...], start: int) -> None:
        """Take in a chunk, given its first sample's number.

        Args:
            outputs: the mean `[S, B, ...]`, and the log-variance (or an analytic head's conditional
                variance) if there is one.
            start: number of the first sample.
        """
        self._dtype = torch.promote_types(outputs[0].dtype, torch.float32)
        if self._analytic:
            mean, noise, within = outputs[0], None, outputs[1]
        else:
            (mean, noise), within = self._reading.split(outputs), None
        self._fold(
            BlockMoments.of(mean, start, self._block),
            None if noise is None else Moments.of(noise),
            None if within is None else Moments.of(within),
        )

    def merge(self, other: RegressionEstimator) -> None:
        """Take in another estimator's samples."""
        if other._means is not None:
            self._dtype = other._dtype
            self._fold(other._means, other._noise, other._within)

    def keep(self, index: Tensor) -> None:
        """Forget all rows but these."""
        self._means = self._means and self._means.rows(index)
        self._noise = self._noise and self._noise.rows(index)
        self._within = self._within and self._within.rows(index)

    def expected_error(self) -> Tensor:
        """Of the mean, `[B, ...]`; see `BlockMoments.expected_error`."""
        assert self._means is not None, "no samples yet"
        return self._means.expected_error()

    def prediction(self) -> RegressionPrediction:
        """What the samples so far say."""
        assert self._means is not None, "no samples yet"
        means = self._means
        epistemic, error = means.deviations()
        if self._within is not None:  # the law of total variance
            epistemic = epistemic + self._within.mean
        samples = torch.full((means.mean.shape[0],), means.count, device=means.mean.device)
        noise = None if self._noise is None else self._noise.mean
        return self._reading.summarised(
            means.mean, epistemic, error, noise, samples, dtype=self._dtype
        )

    def _fold(self, means: BlockMoments, noise: Moments | None, within: Moments | None) -> None:
        self._means = means if self._means is None else self._means.merge(means)
        self._noise = _merged(self._noise, noise)
        self._within = _merged(self._within, within)


class NumberReading:
    """What raw outputs say of numbers: each sample's mean, and the variance of its noise.

    Args:
        task: which part of the output is the mean, and where the noise variance comes from.
    """

    def __init__(self, task: NumberTask) -> None:
        self._task = task

    def read(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read a chunk of samples.

        Args:
            outputs: the mean `[S, B, ...]`, and the log-variance if there is one.

        Returns:
            The means, and sums over the samples: of the noise variance, where the model tells it.
        """
        mean, noise = self.split(outputs)
        return mean, () if noise is None else (noise.sum(0),)

    def prediction(
        self,
        mean: Tensor,
        variance: Tensor,
        error: Tensor,
        sums: Sequence[Tensor],
        samples: Tensor,
        *,
        dtype: torch.dtype,
    ) -> RegressionPrediction:
        """A prediction of rows that may hold different numbers of samples.

        Args:
            mean: of the samples' means, `[B, ...]`; the next two are of its shape.
            variance: of the samples' means.
            error: of the mean.
            sums: what `read` has summed, over all samples.
            samples: of each row, int64 `[B]`.
            dtype: of the result.
        """
        noise = sums[0] / samples.reshape(-1, *[1] * (sums[0].ndim - 1)) if sums else None
        return self.summarised(mean, variance, error, noise, samples, dtype=dtype)

    def summarised(
        self,
        mean: Tensor,
        epistemic: Tensor,
        error: Tensor,
        noise: Tensor | None,
        samples: Tensor,
        *,
        dtype: torch.dtype,
    ) -> RegressionPrediction:
        """The same from the mean of the noise variance; the task's own where that is `None`."""
        if noise is None:
            assert isinstance(self._task, Regression)
            noise = torch.full_like(epistemic, self._task.noise_variance)
        return RegressionPrediction(
            mean=mean.to(dtype),
            variance=(epistemic + noise).to(dtype),
            standard_error=error.to(dtype),
            samples=samples,
            epistemic=epistemic.to(dtype),
            aleatoric=noise.to(dtype),
        )

    def split(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
        """Mean and noise variance of each sample, in float32 or wider."""
        dtype = torch.promote_types(outputs[0].dtype, torch.float32)
        wide = [out.to(dtype) for out in outputs]
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


def _merged(old: Moments | None, new: Moments | None) -> Moments | None:
    return new if old is None or new is None else old.merge(new)
