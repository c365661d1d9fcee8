"""Metrics that are means over cases: the sum and the number are all that is kept."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.metrics.functional import densities, scores, spread
from mcdrop.metrics.wide import WideMetric


class Average(WideMetric):
    """A mean over the cases of all batches."""

    total: Tensor
    number: Tensor

    def __init__(self, *parameters: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # a MetricCollection updates one metric for all whose states are equal after a first batch:
        # sums of different things may be, so each state says what it is of
        name = zlib.crc32(repr((type(self).__name__, parameters)).encode())
        self.add_state("kind", torch.tensor(name), dist_reduce_fx="max")
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("number", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """A scalar, float64; NaN without cases."""
        return self.total / self.number

    def _add(self, mean: Tensor, number: int) -> None:
        self.total = self.total + mean * number
        self.number = self.number + number


class NegativeLogLikelihood(Average):
    """See `functional.negative_log_likelihood`.

    Example:
        >>> metric = NegativeLogLikelihood()
        >>> metric.update(probs=torch.tensor([[0.5, 0.5], [0.0, 1.0]]), labels=torch.tensor([0, 1]))
        >>> round(metric.compute().item(), 4)
        0.3466
    """

    higher_is_better = False

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch: probabilities or logits, and labels."""
        score = scores.negative_log_likelihood(probs=probs, logits=logits, labels=labels)
        self._add(score, labels.numel())


class BrierScore(Average):
    """See `functional.brier_score`."""

    higher_is_better = False

    def update(
        self, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> None:
        """Take in a batch: probabilities or logits, and labels."""
        score = scores.brier_score(probs=probs, logits=logits, labels=labels)
        self._add(score, labels.numel())


class GaussianNegativeLogLikelihood(Average):
    """See `functional.gaussian_negative_log_likelihood`."""

    higher_is_better = False

    def update(self, mean: Tensor, std: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        score = densities.gaussian_negative_log_likelihood(mean, std, target)
        self._add(score, target.numel())


class MixtureNegativeLogLikelihood(Average):
    """See `functional.mixture_negative_log_likelihood`."""

    higher_is_better = False

    def update(self, means: Tensor, stds: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        score = densities.mixture_negative_log_likelihood(means, stds, target)
        self._add(score, target.numel())


class GaussianCRPS(Average):
    """See `functional.crps_gaussian`."""

    higher_is_better = False

    def update(self, mean: Tensor, std: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        self._add(densities.crps_gaussian(mean, std, target), target.numel())


class EnsembleCRPS(Average):
    """See `functional.crps_ensemble`.

    Args:
        fair: whether to correct for the number of samples.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, *, fair: bool = False, **kwargs: Any) -> None:
        super().__init__(fair, **kwargs)
        self.fair = fair

    def update(self, samples: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        self._add(densities.crps_ensemble(samples, target, fair=self.fair), target.numel())


class PinballLoss(Average):
    """See `functional.pinball_loss`.

    Args:
        level: of the quantile, strictly between 0 and 1.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, level: float, **kwargs: Any) -> None:
        super().__init__(level, **kwargs)
        self.level = inside(level)

    def update(self, quantile: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        self._add(densities.pinball_loss(quantile, target, self.level), target.numel())


class IntervalScore(Average):
    """See `functional.interval_score`.

    Args:
        level: what the intervals hold, strictly between 0 and 1.
        kwargs: torchmetrics' own.
    """

    higher_is_better = False

    def __init__(self, level: float, **kwargs: Any) -> None:
        super().__init__(level, **kwargs)
        self.level = inside(level)

    def update(self, lower: Tensor, upper: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        score = densities.interval_score(lower, upper, target, self.level)
        self._add(score, target.numel())


class IntervalCoverage(Average):
    """See `functional.interval_coverage`: neither high nor low is better, but what was meant."""

    def update(self, lower: Tensor, upper: Tensor, target: Tensor) -> None:
        """Take in a batch."""
        self._add(spread.interval_coverage(lower, upper, target), target.numel())


class MeanIntervalWidth(Average):
    """See `functional.mean_interval_width`."""

    higher_is_better = False

    def update(self, lower: Tensor, upper: Tensor) -> None:
        """Take in a batch."""
        self._add(spread.mean_interval_width(lower, upper), lower.numel())
