"""Figures of each class, output or group of rows, and the sums of groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.evaluation.document import Estimate, Slice
from mcdrop.evaluation.measures import OfSums
from mcdrop.evaluation.resampled import Resampled
from mcdrop.evaluation.resampling import Sums

MOST = 1000


class Groups:
    """Sums of groups of rows by their names, at most a thousand of them."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._sums = Sums()

    def add(self, rows: Tensor, names: Sequence[str], columns: Mapping[str, Tensor]) -> None:
        """Take in cases.

        Args:
            rows: number of each case's row, int64 `[n]`.
            names: group of each row; all have the same number of cases.
            columns: what to sum, by name, `[n]`.

        Raises:
            InputError: there are more than a thousand groups.
        """
        for name in names:
            self._ids.setdefault(name, len(self._ids))
        if len(self._ids) > MOST:
            raise InputError(f"expected at most {MOST} groups; got more: is it the right column?")
        ids = torch.tensor([self._ids[name] for name in names], device=rows.device)
        place = ids.repeat_interleave(len(rows) // len(names))
        for name, column in columns.items():
            self._sums.count(rows, name, place, MOST, column)

    def slices(self, measures: Iterable[OfSums], wanted: Sequence[str]) -> tuple[Slice, ...]:
        """Some of the figures of each group, in the order of the groups' names."""
        if not self._ids:
            return ()
        by_name = {each.measure.name: each for each in measures}
        some = [by_name[name] for name in wanted if name in by_name]
        found = slices(list(self._ids), Resampled(self._sums), some)
        return tuple(sorted(found, key=lambda each: each.name))


def slices(names: Sequence[str], sums: Resampled, measures: Iterable[OfSums]) -> tuple[Slice, ...]:
    """A slice for each name: its place is that of the name.

    Args:
        names: of the slices.
        sums: of as many slices, or more.
        measures: what to make of them.
    """
    cases = sums.totals["cases"].tolist()
    figures: list[dict[str, Estimate]] = [{} for _ in names]
    for each in measures:
        pairs = zip(figures, each.all(sums)[: len(names)], strict=True)
        for slot, (value, bounds) in pairs:
            low, high = bounds
            slot[each.measure.name] = Estimate(
                value=value if abs(value) < float("inf") else None, low=low, high=high
            )
    return tuple(
        Slice(name=name, cases=round(count), figures=found)
        for name, count, found in zip(names, cases, figures, strict=False)
    )
