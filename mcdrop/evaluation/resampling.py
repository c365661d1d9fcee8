"""Bootstrap confidence intervals, of sums that are streamed and of figures that need an order.

Rows are drawn again, not cases: the pixels of an image are one draw. An interval is the figure plus
and minus 1.96 times its standard deviation over replicates, within its bounds: figures like the ECE
are biased upwards in a resampled set, so that percentiles would lie beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

GROUPS = 128
REPLICATES = 400
_RANKED_REPLICATES, _RANKED_CASES = 100, 20_000
Z95 = 1.959964


class Sums:
    """Sums over cases, kept apart for 128 groups of rows: a bootstrap draws groups again.

    Memory does not grow with the cases. Which group a row belongs to is as good as random, for rows
    may come in any order: of sorted ones every 128th would be too much alike the others.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._used = torch.zeros(GROUPS, dtype=torch.bool)

    def add(self, rows: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Take in cases.

        Args:
            rows: number of each case's row, int64 `[n]`.
            columns: what to sum, by name, `[n]` or `[n, ...]`.
        """
        group = _group(rows)
        for name, column in columns.items():
            sums = self._at(name, column.shape[1:], column.device)
            sums.index_add_(0, group, column.double())
        self._used[group.cpu()] = True

    def count(self, rows: Tensor, name: str, place: Tensor, size: int, values: Tensor) -> None:
        """Take in cases that belong into bins, without a column for each bin.

        Args:
            rows: number of each case's row, int64 `[n]`.
            name: of the sums, `[size]`.
            place: bin of each case, `[n]`.
            size: number of bins.
            values: what to sum, `[n]`.
        """
        sums = self._at(name, torch.Size((size,)), values.device)
        sums.view(-1).index_add_(0, _group(rows) * size + place, values.double())

    def totals(self) -> dict[str, Tensor]:
        """Sums over all cases, by name."""
        return {name: sums.sum(0) for name, sums in self._sums.items()}

    def replicates(self, seed: int = 0) -> dict[str, Tensor]:
        """Sums over resampled rows, `[400, ...]`, by name."""
        generator = torch.Generator().manual_seed(seed)
        used = self._used.nonzero().flatten()
        drawn = used[torch.randint(len(used), (REPLICATES, len(used)), generator=generator)]
        weights = torch.zeros(REPLICATES, GROUPS, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        return {
            name: (weights.to(sums.device) @ sums.flatten(1)).unflatten(1, sums.shape[1:])
            if sums.ndim > 1
            else weights.to(sums.device) @ sums
            for name, sums in self._sums.items()
        }

    def _at(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        if name not in self._sums:
            empty = torch.zeros(GROUPS, *shape, dtype=torch.float64, device=device)
            self._sums[name] = empty
        return self._sums[name]


def _group(rows: Tensor) -> Tensor:
    """A group for each row number, by a hash of it (the multipliers of SplitMix64)."""
    mixed = rows.long() * -0x61C8864680B583EB  # modulo 2 ** 64, as all of this
    mixed = (mixed ^ (mixed >> 30)) * -0x40A7B892E31B1A47
    return ((mixed ^ (mixed >> 27)) >> 20) % GROUPS


def ranked_deviation(
    figure: Callable[..., Tensor], columns: tuple[Tensor, ...], seed: int = 0
) -> float:
    """Standard deviation of a figure that puts cases in order, over resampled rows.

    Of many cases it is that of 20,000 of them, scaled by the root of their share.

    Args:
        figure: of flat columns; its cost grows with their length.
        columns: `[rows, cases of a row]` each.
        seed: of the draws.

    Returns:
        NaN where fewer than ten replicates have a figure.
    """
    rows, cases = columns[0].shape
    generator = torch.Generator().manual_seed(seed)
    kept = min(rows, max(2, _RANKED_CASES // max(1, cases)))
    some = torch.randperm(rows, generator=generator)[:kept]
    values = []
    for _ in range(_RANKED_REPLICATES):
        drawn = some[torch.randint(kept, (kept,), generator=generator)].to(columns[0].device)
        value = float(figure(*(column[drawn].flatten() for column in columns)))
        if math.isfinite(value):
            values.append(value)
    if len(values) < 10:
        return math.nan
    spread = float(torch.tensor(values, dtype=torch.float64).std())
    return spread * math.sqrt(kept / rows)


def interval(
    value: float, deviation: float, low: float = -math.inf, high: float = math.inf
) -> tuple[float | None, float | None]:
    """The 95% interval of a figure within its bounds; nothing where there is no figure."""
    if not (math.isfinite(value) and math.isfinite(deviation)):
        return None, None
    return max(low, value - Z95 * deviation), min(high, value + Z95 * deviation)


def wilson(right: float, count: float) -> tuple[float | None, float | None]:
    """The 95% interval of a share (Wilson 1927); nothing without cases.

    Example:
        >>> [round(end, 3) for end in wilson(9, 10)]
        [0.596, 0.982]
    """
    if not count:
        return None, None
    share, z2 = right / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # never beside the share itself, by rounding
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
