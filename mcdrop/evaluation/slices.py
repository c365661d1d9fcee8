"""Sums over cases for each class or group of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcdrop.errors import InputError

MOST = 1000


class Slices:
    """Sums by the name of a slice, at most a thousand of them."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}

    def ids(self, names: Sequence[str]) -> Tensor:
        """A number for each name, the same each time, int64 of that length.

        Raises:
            InputError: there are more than a thousand.
        """
        for name in names:
            self._ids.setdefault(name, len(self._ids))
        if len(self._ids) > MOST:
            raise InputError(f"expected at most {MOST} groups; got more: is it the right column?")
        return torch.tensor([self._ids[name] for name in names])

    def add(self, ids: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Take in cases.

        Args:
            ids: slice of each, `[n]`.
            columns: what to sum, by name, `[n]`.
        """
        for name, column in columns.items():
            sums = self._sums.setdefault(name, torch.zeros(MOST, dtype=torch.float64))
            sums.index_add_(0, ids.cpu(), column.double().cpu())

    def totals(self) -> list[tuple[str, dict[str, float]]]:
        """Names with their sums, in the order of the names."""
        found = [
            (name, {key: float(sums[place]) for key, sums in self._sums.items()})
            for name, place in self._ids.items()
        ]
        return sorted(found, key=lambda pair: pair[0])
