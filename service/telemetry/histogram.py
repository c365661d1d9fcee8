"""Counts of values between fixed bounds, as Prometheus keeps them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from prometheus_client.utils import floatToGoString

_FEW = 16  # values, which Python counts before NumPy has begun to

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Histogram:
    """A histogram whose upper bounds belong to their buckets; not locked, its owner does that.

    Example:
        >>> seconds = Histogram((0.1, 1.0))
        >>> seconds.add(0.1)
        >>> seconds.add_all(np.array([0.5, 7.0, np.nan]))
        >>> seconds.cumulative()
        [('0.1', 1), ('1.0', 2), ('+Inf', 3)]
        >>> seconds.sum
        7.6
    """

    __slots__ = ("_array", "_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._array = np.array(bounds, float)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one finite value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add_all(self, values: Values) -> None:
        """Count all values but those that are not finite: they would stay in the sum for ever."""
        flat = values.ravel()
        if len(flat) <= _FEW:
            for value in flat.tolist():
                if math.isfinite(value):
                    self.add(value)
            return
        total = float(flat.sum(dtype=float))
        if not np.isfinite(total):
            flat = flat[np.isfinite(flat)]
            total = float(flat.sum(dtype=float))
        more = np.bincount(self._array.searchsorted(flat), minlength=len(self._counts))
        self._counts = [a + b for a, b in zip(self._counts, more.tolist(), strict=True)]
        self.sum += total

    def copy(self) -> Histogram:
        """The same counts, which stay as they are."""
        other = Histogram(self._bounds)
        other._counts = list(self._counts)
        other.sum = self.sum
        return other

    def cumulative(self) -> list[tuple[str, int]]:
        """Each upper bound as Prometheus writes it, with the number of values up to it."""
        bounds = map(floatToGoString, (*self._bounds, float("inf")))
        return list(zip(bounds, accumulate(self._counts), strict=True))
