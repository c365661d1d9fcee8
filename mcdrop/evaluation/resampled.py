"""Sums with their replicates: what figures, and their spread, are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcdrop.evaluation.intervals import Bounds, effective, spread, wilson
from mcdrop.evaluation.resampling import Sums


class Resampled:
    """Sums of all cases, or of each slice of them, and the same in replicates.

    Args:
        sums: with `"cases"`, and with `"rows"`, to which each case adds its share of a row.
        groups: of rows that there are, if not those of `"cases"`.
    """

    def __init__(self, sums: Sums, groups: Tensor | None = None) -> None:
        self.totals: Mapping[str, Tensor] = sums.totals()
        self.groups = sums.groups("cases") if groups is None else groups
        self._again = sums.replicates()

    def deviation(self, of: Callable[[Mapping[str, Tensor]], Tensor]) -> Tensor:
        """Standard deviation over replicates of what is made of sums; NaN where it is not known."""
        return spread(of(self._again), self.groups)

    def effective(self, hits: str, cases: str) -> list[float]:
        """How many cases that are independent would tell this share as well as these do."""
        count, rows = self.totals[cases], self.totals["rows"]
        if torch.equal(rows, self.totals["cases"]):
            return _list(count)
        share = self.totals[hits] / count
        seen = self.deviation(lambda sums: sums[hits] / sums[cases])
        # rows of which a slice has a part of the cases only: as many as there are groups, at least
        least = rows.maximum(self.groups.double()).minimum(count)
        columns = (share, count, least, seen)
        return [effective(*each) for each in zip(*map(_list, columns), strict=True)]

    def shares(self, hits: str, cases: str) -> list[tuple[float, Bounds]]:
        """Shares of hits, each with its interval."""
        share = _list(self.totals[hits] / self.totals[cases])
        counts = self.effective(hits, cases)
        return [
            (value, wilson(value * count, count) if count else (None, None))
            for value, count in zip(share, counts, strict=True)
        ]


def _list(values: Tensor) -> list[float]:
    found: list[float] = values.reshape(-1).tolist()
    return found
