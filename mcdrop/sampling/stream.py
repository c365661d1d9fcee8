"""The stream of random words: counter-based, so any mask can be made alone, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mcdrop.errors import InputError

Words = npt.NDArray[np.uint64]
_LIMIT = 2**63
_LANES = 4  # words that Philox-4×64 makes of one counter

# What a block's words are for; part of the counter, so that uses never share a word.
MASKS: Final = 0
OFFSETS: Final = 1


@dataclass(frozen=True, slots=True)
class MaskStream:
    """Uniform 64-bit words from Philox-4×64-10 (Salmon et al. 2011), keyed by (seed, site).

    The counter holds (row and element, block, purpose): the words of one row in one block are the
    same whatever is drawn beside them, before them, or on which device they are used.

    Args:
        seed: 0 to 2**63 - 1.

    Raises:
        InputError: the seed is out of range.

    Example:
        >>> stream = MaskStream(seed=0)
        >>> two = stream.words(site=0, block=5, purpose=MASKS, rows=range(2), count=6)
        >>> bool((stream.words(0, 5, MASKS, range(1, 2), 6) == two[1]).all())
        True
    """

    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed must be an integer; got {self.seed!r}")
        if not 0 <= self.seed < _LIMIT:
            raise InputError(f"seed must be between 0 and 2**63 - 1; got {self.seed}")

    def words(self, site: int, block: int, purpose: int, rows: range, count: int) -> Words:
        """`count` words for each of some neighbouring rows, uint64 `[rows, count]`."""
        counters = -(-count // _LANES)  # of one row; rows lie behind one another
        key = np.array([self.seed, site], dtype=np.uint64)
        counter = np.array([rows.start * counters, block, purpose, 0], dtype=np.uint64)
        raw = np.random.Philox(key=key, counter=counter).random_raw(len(rows) * counters * _LANES)
        words: Words = raw.reshape(len(rows), counters * _LANES)[:, :count]
        return words
