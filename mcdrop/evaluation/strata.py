"""The bootstrap of figures that put cases in order, however rare the cases are that decide them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.evaluation.intervals import FEWEST
from mcdrop.evaluation.weighted import OfWeights

REPLICATES = 100
ROWS = 20_000  # of a side, at most
_CASES_OF_A_ROW = 40  # from which it is worth to take fewer rows
_AT_A_TIME = 10


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Rows of one or two sides, `k` in all, and some of their cases.

    Attributes:
        sides: where the rows of each side are among the `k`, and how many there were of it.
        weights: how many rows each of them stands for, `[k]`.
        row: which of them each case is of, `[n]`.
        place: of each case among all cases, `[n]`.
        thinned: how many cases each of them stands for, `[n]`.
    """

    sides: tuple[tuple[slice, int], ...]
    weights: Tensor
    row: Tensor
    place: Tensor
    thinned: Tensor


def ranked_deviation(
    figure: Callable[..., OfWeights],
    columns: tuple[Tensor, ...],
    side: Tensor | None = None,
    *,
    fixed: bool = False,
    both: bool = False,
    seed: int = 0,
) -> float:
    """Standard deviation of a figure that puts cases in order, over resampled rows.

    Rows of the two sides (other data and ours, wrong and right) are drawn again apart from each
    other, and the variances that come from each are added (Hájek's projection). Of a side with more
    than 20,000 rows that many are taken, each standing for several, and its part of the variance is
    scaled by their share. So a side of few rows is never thinned, and decides.

    Args:
        figure: one of `mcdrop.evaluation.weighted`.
        columns: `[rows, cases of a row]` each.
        side: above 0 for cases of the one side, of that shape; a row with one such case is of it.
        fixed: whether it was chosen how many rows each side has; if not, that is left to chance.
        both: whether there is a figure only with cases of both sides.
        seed: of the draws.

    Returns:
        NaN where there are fewer than ten rows (of each side, if it takes both), or a tenth of the
        replicates has no figure.
    """
    rows, cases = columns[0].shape
    marked = torch.zeros(rows, cases) if side is None else side
    few = min(int((marked > 0).sum()), int((marked <= 0).sum())) if both else rows
    if min(few, rows) < FEWEST:
        return math.nan
    generator = torch.Generator().manual_seed(seed)
    drawn = _draw(marked > 0, generator)
    of = figure(*(column.flatten()[drawn.place.to(column.device)] for column in columns))
    variance = 0.0
    for where, whole in drawn.sides:
        parts = [of(weights) for weights in _replicates(drawn, where, generator, fixed=fixed)]
        values = torch.cat(parts)
        known = values[values.isfinite()]
        if len(known) <= 0.9 * len(values):
            return math.nan
        variance += float(known.var()) * (where.stop - where.start) / whole
    return math.sqrt(variance)


def _draw(marked: Tensor, generator: torch.Generator) -> _Drawn:
    """Rows of each side without replacement, and of their cases as many as can be had."""
    marked = marked.cpu()
    cases, hit = marked.shape[1], marked.any(1)
    most = ROWS // min(cases, _CASES_OF_A_ROW)
    sides, chosen, weights, start = [], [], [], 0
    for rows in (hit.nonzero()[:, 0], (~hit).nonzero()[:, 0]):
        if not len(rows):
            continue
        some = rows[torch.randperm(len(rows), generator=generator)[:most]]
        sides.append((slice(start, start + len(some)), len(rows)))
        start += len(some)
        chosen.append(some)
        weights.append(torch.full((len(some),), len(rows) / len(some), dtype=torch.float64))
    picked = torch.cat(chosen)
    place = (picked[:, None] * cases + torch.arange(cases)).flatten()
    row = torch.arange(len(picked)).repeat_interleave(cases)
    kept, thinned = _thin(marked.flatten()[place], generator)
    return _Drawn(tuple(sides), torch.cat(weights), row[kept], place[kept], thinned)


def _thin(marked: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some cases of each side, and how many each stands for."""
    kept, thinned = [], []
    for found in (marked.nonzero()[:, 0], (~marked).nonzero()[:, 0]):
        if not len(found):
            continue
        some = found[torch.randperm(len(found), generator=generator)[:ROWS]]
        kept.append(some)
        thinned.append(torch.full((len(some),), len(found) / len(some), dtype=torch.float64))
    return torch.cat(kept), torch.cat(thinned)


def _replicates(
    drawn: _Drawn, where: slice, generator: torch.Generator, *, fixed: bool
) -> Iterator[Tensor]:
    """Weights of the cases, `[10, n]` at a time, as the rows of one side are drawn again."""
    number = where.stop - where.start
    for _ in range(REPLICATES // _AT_A_TIME):
        times = torch.poisson(
            torch.ones(_AT_A_TIME, number, dtype=torch.float64), generator=generator
        )
        if fixed:
            times *= number / times.sum(1, keepdim=True)
        weights = drawn.weights.repeat(_AT_A_TIME, 1)
        weights[:, where] *= times
        yield weights[:, drawn.row] * drawn.thinned
