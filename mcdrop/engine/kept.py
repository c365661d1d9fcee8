"""What is kept of a seed's first samples, within a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from mcdrop.sampling import MaskBank, Sampling, Shapes

T = TypeVar("T")

_SEEDS = 2  # the default seed, and the last other one
_Key = tuple[int, Sampling, Shapes]


class Kept(Generic[T]):
    """Values by the samples that they are of, for the two banks used last; not thread-safe.

    Args:
        limit: bytes.
        size: of a value, in bytes.
    """

    def __init__(self, limit: int, size: Callable[[T], int]) -> None:
        self._limit = limit
        self._size = size
        self._values: OrderedDict[_Key, dict[range, T]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Of all values."""
        return sum(self._size(value) for of in self._values.values() for value in of.values())

    def of(self, bank: MaskBank) -> Mapping[range, T]:
        """What is kept for a bank, which is now the one used last."""
        key = _key(bank)
        if key in self._values:
            self._values.move_to_end(key)
        return MappingProxyType(self._values.get(key, {}))

    def fits(self, bank: MaskBank, size: int) -> bool:
        """Whether so many bytes more fit beside the others of a bank."""
        held = self._values.get(_key(bank), {})
        return sum(map(self._size, held.values())) + size <= self._limit

    def keep(self, bank: MaskBank, samples: range, value: T) -> bool:
        """Keep a value if it fits; another bank's make way for it."""
        size = self._size(value)
        if not self.fits(bank, size):
            return False
        values = self._values.setdefault(_key(bank), {})
        self._values.move_to_end(_key(bank))
        while len(self._values) > _SEEDS or (
            len(self._values) > 1 and self.bytes + size > self._limit
        ):
            self._values.popitem(last=False)
        values[samples] = value
        return True

    def clear(self) -> None:
        """Give everything up."""
        self._values.clear()


def _key(bank: MaskBank) -> _Key:
    return bank.stream.seed, bank.sampling, bank.shapes
