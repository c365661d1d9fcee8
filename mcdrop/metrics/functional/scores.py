"""Proper scores of class probabilities: the log score, and Brier's with its parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.functional.reliability import ReliabilityCurve, classwise_curves


def negative_log_likelihood(
    *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
) -> Tensor:
    r"""Mean negative log-likelihood of the labels, in nats: :math:`-\overline{\log p_y}`.

    Of a Monte Carlo prediction pass the mean of the samples' probabilities: it is the mixture's.
    A label that was given no probability at all makes it infinite.

    Args:
        probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes; see `cases`.
        logits: instead of `probs`; nothing is lost to rounding then.
        labels: integers.

    Returns:
        A scalar, float64.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> probs, labels = torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> score = negative_log_likelihood(probs=probs, labels=labels)
        >>> round(score.item(), 4)
        0.3466
    """
    return -log_likelihoods(probs=probs, logits=logits, labels=labels).mean()


def log_likelihoods(
    *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
) -> Tensor:
    """Log-probability of each case's label, float64 `[N]`, in nats."""
    found = cases(probs=probs, logits=logits, labels=labels)
    if logits is None:
        return found.probs.gather(1, found.labels[:, None])[:, 0].log()
    wide = logits.detach().double()
    if labels.shape == logits.shape:
        sign = 2.0 * labels.double() - 1.0
        return F.logsigmoid(sign * wide).reshape(-1)
    logs = torch.log_softmax(wide, 1).movedim(1, -1).flatten(0, -2)
    return logs.gather(1, found.labels[:, None])[:, 0]


def brier_score(
    *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
) -> Tensor:
    r"""Mean squared error of probabilities (Brier 1950).

    Of classes the sum over them, :math:`\overline{\sum_c (p_c - [y = c])^2}`, from 0 to 2 as in the
    paper; of binary and multilabel predictions :math:`\overline{(p - y)^2}`, half of that for two
    classes.

    Args:
        probs: as for `negative_log_likelihood`.
        logits: instead of `probs`.
        labels: integers.

    Returns:
        A scalar, float64.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> brier_score(probs=torch.tensor([0.5, 1.0]), labels=torch.tensor([0, 1])).item()
        0.125
    """
    return brier_scores(probs=probs, logits=logits, labels=labels).mean()


def brier_scores(
    *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
) -> Tensor:
    """Brier score of each case, float64 `[N]`."""
    found = cases(probs=probs, logits=logits, labels=labels)
    each = (found.probs - found.one_hot).square().sum(1)
    given = probs if probs is not None else logits
    assert given is not None
    return each / 2.0 if labels.shape == given.shape else each


@dataclass(frozen=True, slots=True)
class BrierDecomposition:
    """Parts of a Brier score; `reliability - resolution + uncertainty + within` is the whole.

    Attributes:
        reliability: how far probabilities are from frequencies: 0 is calibrated.
        resolution: how far frequencies of the bins are from that of all: more is better.
        uncertainty: the score of always predicting how frequent each class is.
        within: what differs inside the bins, which the first two do not see (Stephenson et al.
            2008).
    """

    reliability: Tensor
    resolution: Tensor
    uncertainty: Tensor
    within: Tensor


def brier_decomposition(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> BrierDecomposition:
    """Split the Brier score (Murphy 1973), over bins of equal width of each class's probability.

    Args:
        probs: as for `negative_log_likelihood`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many.

    Returns:
        Scalars, float64, in the scale of `brier_score`.

    Raises:
        InputError: an argument does not fit.
    """
    found = cases(probs=probs, logits=logits, labels=labels)
    given = probs if probs is not None else logits
    assert given is not None
    half = 0.5 if labels.shape == given.shape else 1.0
    curve = classwise_curves(found, bins)
    score = (found.probs - found.one_hot).square().sum(1).mean()
    base = found.one_hot.mean(0)
    reliability = (curve.share * curve.gap.square()).sum()
    resolution = (curve.share * _apart(curve, base)).sum()
    uncertainty = (base * (1.0 - base)).sum()
    within = score - (reliability - resolution + uncertainty)
    return BrierDecomposition(
        half * reliability, half * resolution, half * uncertainty, half * within
    )


def _apart(curve: ReliabilityCurve, base: Tensor) -> Tensor:
    """Squared distance of each bin's frequency from that of all; 0 where it is empty."""
    return torch.where(curve.count > 0, curve.accuracy - base[:, None], 0.0).square()
