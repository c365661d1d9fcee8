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
# A draw of so many words takes hardly longer than one of a single word.
_AT_LEAST = 4096

# What a block's words are for; part of the counter, so that uses never share a word.
MASKS: Final = 0
OFFSETS: Final = 1


@dataclass(frozen=True, slots=True)
class MaskStream:
    """Uniform 64-bit words from Philox-4×64-10 (Salmon et al. 2011), keyed by (seed, site).

    The counter holds (row, block and element; first block; purpose): the words of one row in one
    block are the same whatever is drawn beside them, before them, or on which device they are used.

    Args:
        seed: 0 to 2**63 - 1.

    Raises:
        InputError: the seed is out of range.

    Example:
        >>> stream = MaskStream(seed=0)
        >>> two = stream.words(0, range(5, 6), MASKS, rows=range(2), count=6)
        >>> bool((stream.words(0, range(5, 6), MASKS, range(1, 2), 6) == two[:, 1:]).all())
        True
    """

    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed must be an integer; got {self.seed!r}")
        if not 0 <= self.seed < _LIMIT:
            raise InputError(f"seed must be between 0 and 2**63 - 1; got {self.seed}")

    def words(self, site: int, blocks: range, purpose: int, rows: range, count: int) -> Words:
        """`count` words for each of some neighbouring blocks and rows, uint64 `[blocks, R, count]`.

        Args:
            site: number of the site.
            blocks: numbers of the blocks; always the same together for a site.
            purpose: `MASKS` or `OFFSETS`.
            rows: numbers of the rows.
            count: words of a row in a block.
        """
        counters = -(-count // _LANES)  # of one row in one block
        each = len(blocks) * counters
        key = np.array([self.seed, site], dtype=np.uint64)
        counter = np.array([rows.start * each, blocks.start, purpose, 0], dtype=np.uint64)
        raw = np.random.Philox(key=key, counter=counter).random_raw(len(rows) * each * _LANES)
        words: Words = raw.reshape(len(rows), len(blocks), counters * _LANES)[:, :, :count]
        return words.swapaxes(0, 1)


def together(count: int) -> int:
    """How many blocks of so many words each to draw together: a power of two, at most 16.

    Example:
        >>> together(50), together(1024), together(10**6)
        (16, 4, 1)
    """
    return min(16, 1 << max(0, (_AT_LEAST // max(count, 1)).bit_length() - 1))
