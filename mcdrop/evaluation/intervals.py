"""Confidence intervals: of figures from their spread, of shares from how many cases there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Z95 = 1.959964
FEWEST = 10  # rows, or groups of them, from which a spread is told
_SAME = 1e-12  # a spread this small beside the figure is rounding

Bounds = tuple[float | None, float | None]


def interval(
    value: float,
    deviation: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    fixed: bool = False,
) -> Bounds:
    """The 95% interval of a figure within its bounds.

    Args:
        value: of the figure.
        deviation: its standard deviation over replicates.
        low: it cannot be less.
        high: it cannot be more.
        fixed: whether it may well be the same for every case. Of any other figure no spread at all
            says that there are too few cases to see it, not that it is known exactly.

    Returns:
        Nothing where there is no figure, or its spread is not known.
    """
    if not (math.isfinite(value) and math.isfinite(deviation)):
        return None, None
    if deviation <= _SAME * abs(value):
        return (value, value) if fixed else (None, None)
    return max(low, value - Z95 * deviation), min(high, value + Z95 * deviation)


def wilson(right: float, count: float) -> Bounds:
    """The 95% interval of a share (Wilson 1927); nothing without cases.

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.596, 0.982]
    """
    if not count:
        return None, None
    share, z2 = min(1.0, max(0.0, right / count)), Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # never beside the share itself, by rounding
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def spread(again: Tensor, groups: Tensor) -> Tensor:
    """Standard deviations of figures over replicates, `[...]`.

    Args:
        again: the figures in each replicate, `[R, ...]`.
        groups: of rows that each figure has cases in, `[...]`.

    Returns:
        NaN where there are fewer than ten groups, or a tenth of the replicates has no figure.
    """
    known = again.isfinite()
    count = known.sum(0)
    mean = torch.where(known, again, 0.0).sum(0) / count
    square = torch.where(known, again - mean, 0.0).square().sum(0) / (count - 1)
    told = (count > 0.9 * len(again)) & (groups.to(count.device) >= FEWEST)
    return torch.where(told, square.sqrt(), torch.nan)


def effective(share: float, cases: float, rows: float, deviation: float) -> float:
    """How many cases that are independent would tell a share as well as these do.

    Cases of one row, such as the pixels of an image, resemble each other: they count as much as the
    spread over rows says, and never less than the rows.

    Args:
        share: of hits.
        cases: all of them.
        rows: that they are of.
        deviation: of the share over replicates.
    """
    if not (math.isfinite(deviation) and deviation > 0.0):
        return rows
    return min(cases, max(rows, share * (1.0 - share) / deviation**2))
