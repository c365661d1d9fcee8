"""The bootstrap of sums that are streamed: sums over cases, kept apart for groups of rows.

Rows are drawn again, not cases: the pixels of an image are one draw. An interval is the figure plus
and minus 1.96 times its standard deviation over replicates, within its bounds: figures like the ECE
are biased upwards in a resampled set, so that percentiles would lie beside the figure.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

GROUPS = 128
REPLICATES = 400


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
        group = _group(rows)
        sums = self._at(name, torch.Size((size,)), values.device)
        sums.view(-1).index_add_(0, group * size + place, values.double())
        self._used[group.cpu()] = True

    def totals(self) -> dict[str, Tensor]:
        """Sums over all cases, by name."""
        return {name: sums.sum(0) for name, sums in self._sums.items()}

    def groups(self, name: str) -> Tensor:
        """In how many groups of rows each of these sums has anything, int64 `[...]`."""
        return self._sums[name].ne(0.0).sum(0)

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
