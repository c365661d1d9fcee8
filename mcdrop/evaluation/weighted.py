"""Figures that put cases in order, of weighted cases: what a bootstrap makes a hundred times.

Each function takes columns, `[n]`, puts them in order once, and gives a function from weights,
`[R, n]`, to the figure under each row of them, `[R]`. Weights of 1 give the figure of the same name
in `mcdrop.metrics`, and a whole weight is that many equal cases, but for those of a bin's edge.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

OfWeights = Callable[[Tensor], Tensor]


def auroc(score: Tensor, positive: Tensor) -> OfWeights:
    """Chance that a positive case has the higher score; ties half."""
    sides = _sides(score, positive, descending=False)

    def of(weights: Tensor) -> Tensor:
        ups, downs = sides(weights)
        below = (downs + _before(downs)) / 2.0
        return ((ups - _before(ups)) * below).sum(1) / (ups[:, -1] * downs[:, -1])

    return of


def average_precision(score: Tensor, positive: Tensor) -> OfWeights:
    """Area under precision and recall."""
    sides = _sides(score, positive, descending=True)

    def of(weights: Tensor) -> Tensor:
        ups, downs = sides(weights)
        precision = _ratio(ups, ups + downs)
        return (precision * (ups - _before(ups))).sum(1) / ups[:, -1]

    return of


def false_positive_rate(score: Tensor, positive: Tensor, recall: float = 0.95) -> OfWeights:
    """Share of the others that is flagged where this share of the positive cases is."""
    sides = _sides(score, positive, descending=True)

    def of(weights: Tensor) -> Tensor:
        ups, downs = sides(weights)
        first = (ups >= (recall - 1e-9) * ups[:, -1:]).long().argmax(1)
        return downs.gather(1, first[:, None])[:, 0] / downs[:, -1]

    return of


def risk_area(uncertainty: Tensor, loss: Tensor) -> OfWeights:
    """AURC."""
    risks = _risks(uncertainty, loss)

    def of(weights: Tensor) -> Tensor:
        risk, _, share = risks(weights)
        return (risk * share).sum(1)

    return of


def excess_risk_area(uncertainty: Tensor, loss: Tensor) -> OfWeights:
    """Excess AURC."""
    ours, best = risk_area(uncertainty, loss), risk_area(loss, loss)
    return lambda weights: ours(weights) - best(weights)


def generalized_risk_area(uncertainty: Tensor, loss: Tensor) -> OfWeights:
    """AUGRC."""
    risks = _risks(uncertainty, loss)

    def of(weights: Tensor) -> Tensor:
        risk, coverage, share = risks(weights)
        return (risk * coverage * share).sum(1)

    return of


def sparsification_error(uncertainty: Tensor, loss: Tensor) -> OfWeights:
    """AUSE."""
    excess = excess_risk_area(uncertainty, loss)
    return lambda weights: excess(weights) * weights.sum(1) / (weights @ loss)


def adaptive_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> OfWeights:
    """ECE over bins of equal mass."""
    order = confidence.argsort(stable=True)
    gap, bins = (confidence - correct)[order], min(bins, len(order))

    def of(weights: Tensor) -> Tensor:
        ordered = weights[:, order]
        gaps = _binned(ordered, gap, bins)
        return gaps.abs().sum(1) / ordered.sum(1)

    return of


def normalized_error(mean: Tensor, std: Tensor, target: Tensor, bins: int = 10) -> OfWeights:
    """ENCE."""
    variance, order = std.square().sort(stable=True)
    squared, bins = (target - mean).square()[order], min(bins, len(order))
    level = _levelled(variance)

    def of(weights: Tensor) -> Tensor:
        ordered = weights[:, order]
        found = _binned(ordered, level(ordered, squared), bins)
        predicted = _binned(ordered, variance, bins)
        return (1.0 - (found / predicted).sqrt()).abs().nanmean(1)

    return of


def uncertainty_error(mean: Tensor, std: Tensor, target: Tensor, bins: int = 10) -> OfWeights:
    """UCE, in bins between the least and the largest variance of all cases."""
    variance = std.square()
    gap = (target - mean).square() - variance
    low, high = variance.amin(), variance.amax()
    width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    place = ((variance - low) / width * bins).ceil().long().sub(1).clamp(0, bins - 1)

    def of(weights: Tensor) -> Tensor:
        sums = weights.new_zeros(len(weights), bins).index_add_(1, place, weights * gap)
        return sums.abs().sum(1) / weights.sum(1)

    return of


def _sides(
    score: Tensor, positive: Tensor, *, descending: bool
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Weights of positive and of other cases up to the last of each score."""
    ordered, order = score.sort(stable=True, descending=descending)
    ends, up = _ends(ordered), positive[order] > 0

    def of(weights: Tensor) -> tuple[Tensor, Tensor]:
        inner = weights[:, order]
        ups = torch.where(up, inner, 0.0).cumsum(1)[:, ends]
        downs = torch.where(up, 0.0, inner).cumsum(1)[:, ends]
        return ups, downs

    return of


def _risks(uncertainty: Tensor, loss: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Risk and coverage up to each case, and the case's own share of the weight."""
    ordered, order = uncertainty.sort(stable=True)
    losses, level = loss[order], _levelled(ordered)

    def of(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner = weights[:, order]
        sums = inner.cumsum(1)
        whole = sums[:, -1:]
        risk = _ratio((inner * level(inner, losses)).cumsum(1), sums)
        return risk, sums / whole, inner / whole

    return of


def _levelled(ordered: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """What gives each of equal cases the weighted mean of all of them: their order says nothing."""
    ends = _ends(ordered)
    if len(ends) == len(ordered):
        return lambda _, values: values
    _, ties = torch.unique_consecutive(ordered, return_inverse=True)

    def of(weights: Tensor, values: Tensor) -> Tensor:
        counts, sums = weights.cumsum(1)[:, ends], (weights * values).cumsum(1)[:, ends]
        return _ratio(sums - _before(sums), counts - _before(counts))[:, ties]

    return of


def _binned(weights: Tensor, values: Tensor, bins: int) -> Tensor:
    """Weighted sums in bins of equal mass, `[R, bins]`; cases are in order."""
    sums = weights.cumsum(1)
    place = ((sums - weights) / sums[:, -1:] * bins + 1e-9).long().clamp(0, bins - 1)
    return weights.new_zeros(len(weights), bins).scatter_add_(1, place, weights * values)


def _ends(ordered: Tensor) -> Tensor:
    """Place of the last of each run of equal values."""
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return last.nonzero()[:, 0]


def _before(sums: Tensor) -> Tensor:
    """The sums one place earlier, 0 for the first."""
    return torch.cat((sums.new_zeros(len(sums), 1), sums[:, :-1]), 1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0.0, part / whole, 0.0)
