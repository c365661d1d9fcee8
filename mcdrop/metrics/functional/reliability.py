r"""Confidence calibration: how often predictions made with some confidence are right.

Every figure here comes from sums over bins: how many cases, the sum of their confidences, and how
many of them were right. Sums add up, so the figures can be had of any number of cases in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import Cases, cases

Norm = Literal["l1", "l2"]


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Confidences in bins, float64 `[bins]` each; several curves have axes in front.

    Attributes:
        count: cases in each bin.
        confidence: sum of their confidences.
        correct: how many of them were right.
    """

    count: Tensor
    confidence: Tensor
    correct: Tensor

    def merge(self, other: ReliabilityCurve) -> ReliabilityCurve:
        """Both sets of cases together."""
        return ReliabilityCurve(
            self.count + other.count,
            self.confidence + other.confidence,
            self.correct + other.correct,
        )

    @property
    def mean_confidence(self) -> Tensor:
        """Mean confidence of each bin; NaN where it is empty."""
        return self.confidence / self.count

    @property
    def accuracy(self) -> Tensor:
        """Share of each bin that was right; NaN where it is empty."""
        return self.correct / self.count

    @property
    def share(self) -> Tensor:
        """Share of all cases in each bin; NaN without cases."""
        return self.count / self.count.sum(-1, keepdim=True)

    @property
    def gap(self) -> Tensor:
        """Accuracy less confidence of each bin; 0 where it is empty."""
        return torch.where(self.count > 0, self.accuracy - self.mean_confidence, 0.0)

    def expected_error(self) -> Tensor:
        """ECE, `[...]`: the gaps' absolute values, weighted by the bins' shares."""
        return (self.share * self.gap.abs()).sum(-1)

    def root_mean_square_error(self) -> Tensor:
        """RMSCE, `[...]`."""
        return (self.share * self.gap.square()).sum(-1).sqrt()

    def maximum_error(self) -> Tensor:
        """MCE, `[...]`: the largest gap."""
        largest = self.gap.abs().amax(-1)
        return torch.where(self.count.sum(-1) > 0, largest, torch.nan)

    def debiased_error(self, norm: Norm = "l2") -> Tensor:
        """ECE or RMSCE without what chance alone makes of it; see `debiased_calibration_error`."""
        accuracy = torch.where(self.count > 0, self.accuracy, 0.0)
        spread = accuracy * (1.0 - accuracy)
        if norm == "l2":
            chance = torch.where(self.count > 1, spread / (self.count - 1), 0.0)
            weighted = self.share * (self.gap.square() - chance)
            # a bin of one case says nothing of its own chance
            known = weighted.where(self.count > 1, 0.0).sum(-1).clamp_min(0.0).sqrt()
            return torch.where(self.count.sum(-1) > 0, known, torch.nan)
        gap, error = self.gap.abs(), (spread / self.count.clamp_min(1.0)).sqrt()
        return (self.share * (2.0 * gap - _folded(gap, error))).sum(-1)


def _folded(mean: Tensor, deviation: Tensor) -> Tensor:
    """Mean of |X| for a normal X (folded normal distribution)."""
    z = mean / deviation.clamp_min(torch.finfo(mean.dtype).tiny)
    tail = deviation * math.sqrt(2.0 / math.pi) * torch.exp(-0.5 * z.square())
    return tail + mean * torch.erf(z / math.sqrt(2.0))


def reliability_curve(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> ReliabilityCurve:
    """Cases in bins of equal width, by the confidence of what was predicted.

    The bins are closed on the right: (0, 1/15], …, (14/15, 1]. Binary predictions have the
    confidence of the outcome that is predicted, max(p, 1 - p), and not that of yes.

    Args:
        probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes; see `cases`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> curve = reliability_curve(probs=probs, labels=torch.tensor([0, 1, 1]), bins=5)
        >>> curve.count.tolist(), curve.accuracy[-1].item()
        ([0.0, 0.0, 1.0, 1.0, 1.0], 1.0)
    """
    found = cases(probs=probs, logits=logits, labels=labels)
    place = equal_width(found.confidence, bins, found.dtype)
    return _summed(place, found.confidence, found.correct, bins)


def equal_width(confidence: Tensor, bins: int, dtype: torch.dtype) -> Tensor:
    """Number of each confidence's bin, int64 of the same shape; 0 falls into the first.

    Edges are rounded as the confidences were: 0.6 lies in (0.4, 0.6], in float32 too.

    Raises:
        InputError: there is to be no bin.
    """
    edges = torch.linspace(0.0, 1.0, some(bins) + 1, dtype=torch.float64, device=confidence.device)
    rounded = confidence.to(dtype).double()  # 1 - 0.1 too
    return torch.bucketize(rounded.contiguous(), edges[1:-1].to(dtype).double(), right=False)


def some(bins: int) -> int:
    """A number of bins.

    Raises:
        InputError: there is to be none.
    """
    if bins < 1:
        raise InputError(f"expected at least one bin; got bins={bins}")
    return bins


def _summed(place: Tensor, confidence: Tensor, correct: Tensor, bins: int) -> ReliabilityCurve:
    sums = [
        torch.zeros(bins, dtype=torch.float64, device=place.device).scatter_add_(0, place, values)
        for values in (torch.ones_like(confidence), confidence, correct)
    ]
    return ReliabilityCurve(*sums)


def expected_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> Tensor:
    r"""Expected calibration error, bins of equal width (Naeini 2015; Guo et al. 2017, eq. 3).

    .. math:: ECE = \sum_b \frac{n_b}{N} |acc_b - conf_b|

    Args:
        probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes; see `cases`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many, closed on the right.

    Returns:
        A scalar, float64, from 0 to 1.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
        >>> error = expected_calibration_error(probs=probs, labels=torch.tensor([0, 1, 1]))
        >>> round(error.item(), 4)
        0.4333
    """
    return reliability_curve(probs=probs, logits=logits, labels=labels, bins=bins).expected_error()


def maximum_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> Tensor:
    r"""The largest gap of a bin (Naeini et al. 2015): :math:`\max_b |acc_b - conf_b|`.

    Args:
        probs: as for `expected_calibration_error`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many; empty ones do not count.

    Raises:
        InputError: an argument does not fit.
    """
    return reliability_curve(probs=probs, logits=logits, labels=labels, bins=bins).maximum_error()


def root_mean_square_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> Tensor:
    r"""Root mean square gap: :math:`(\sum_b n_b/N \, (acc_b - conf_b)^2)^{1/2}` (Hendrycks 2019).

    Args:
        probs: as for `expected_calibration_error`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many.

    Raises:
        InputError: an argument does not fit.
    """
    curve = reliability_curve(probs=probs, logits=logits, labels=labels, bins=bins)
    return curve.root_mean_square_error()


def debiased_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
    norm: Norm = "l2",
) -> Tensor:
    r"""Calibration error without what chance alone makes of it (Kumar, Liang & Ma 2019).

    In bins of few cases accuracies scatter, so that the plain errors of perfectly calibrated
    predictions are above zero. For `"l2"` the scatter's square is taken off each bin's (their
    section 5), which is unbiased before the root is taken of what is left, or of 0:

    .. math:: \sum_b \frac{n_b}{N}
              \Big[ (acc_b - conf_b)^2 - \frac{acc_b (1 - acc_b)}{n_b - 1} \Big]

    For `"l1"`, the ECE, what normal scatter would add once more is taken off (their released code
    samples it; here it is the folded normal's mean). That removes two fifths of the bias of
    calibrated predictions, and next to all where gaps are wide; it may be negative.

    Args:
        probs: as for `expected_calibration_error`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many, of equal width.
        norm: `"l2"` for the root mean square, `"l1"` for the ECE.

    Raises:
        InputError: an argument does not fit.
    """
    if norm not in ("l1", "l2"):
        raise InputError(f"norm must be 'l1' or 'l2'; got {norm!r}")
    curve = reliability_curve(probs=probs, logits=logits, labels=labels, bins=bins)
    return curve.debiased_error(norm)


def adaptive_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> Tensor:
    """Expected calibration error over bins of equal mass (Nguyen & O'Connor 2015).

    Cases in the order of their confidence, cut into `bins` runs whose sizes differ by at most one,
    and weighted by them. Equal confidences may fall into two bins. Elsewhere "ACE" is also an
    unweighted mean over bins of equal width (netcal), or one over classes (Nixon et al. 2019).

    Args:
        probs: as for `expected_calibration_error`.
        logits: instead of `probs`.
        labels: integers.
        bins: how many; no more than there are cases.

    Raises:
        InputError: an argument does not fit.
    """
    found = cases(probs=probs, logits=logits, labels=labels)
    return adaptive_error(found.confidence, found.correct, bins)


def adaptive_error(confidence: Tensor, correct: Tensor, bins: int) -> Tensor:
    """`adaptive_calibration_error` of confidences and whether they were right, `[N]` each."""
    order = confidence.argsort(stable=True)
    number, bins = len(order), min(some(bins), len(order))
    place = torch.arange(number, device=order.device) * bins // number
    return _summed(place, confidence[order], correct[order], bins).expected_error()


def classwise_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    bins: int = 15,
) -> Tensor:
    """Mean over classes of the ECE of "is it this class?" (Kull et al. 2019, section 3).

    Args:
        probs: as for `expected_calibration_error`; binary predictions have the two classes no, yes.
        logits: instead of `probs`.
        labels: integers.
        bins: how many, over the probability of the class (not over a confidence).

    Raises:
        InputError: an argument does not fit.
    """
    found = cases(probs=probs, logits=logits, labels=labels)
    return classwise_curves(found, bins).expected_error().mean()


def classwise_curves(found: Cases, bins: int) -> ReliabilityCurve:
    """A curve for each class, `[C, bins]`: its probability, and how often it was the right one."""
    probs, classes = found.probs, found.probs.shape[1]
    offset = torch.arange(classes, device=probs.device) * bins
    place = (equal_width(probs, bins, found.dtype) + offset).reshape(-1)
    curve = _summed(place, probs.reshape(-1), found.one_hot.reshape(-1), classes * bins)
    count, confidence, correct = (
        values.view(classes, bins) for values in (curve.count, curve.confidence, curve.correct)
    )
    return ReliabilityCurve(count, confidence, correct)
