"""The stream of random words: counter-based, so any mask can be made alone, in any order."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mcdrop.errors import InputError

Words = npt.NDArray[np.uint32]
_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class MaskStream:
    """Uniform 32-bit words from Philox-4×64-10 (Salmon et al. 2011), keyed by (seed, site).

    The counter holds (element, sample, row): the words of one sample of one row are the same
    whatever is drawn beside them, before them, or on which device they are used.

    Args:
        seed: 0 to 2**63 - 1.

    Raises:
        InputError: the seed is out of range.

    Example:
        >>> stream = MaskStream(seed=0)
        >>> bool((stream.words(0, 5, 0, 4) == stream.words(0, 5, 0, 8)[:4]).all())
        True
    """

    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed must be an integer; got {self.seed!r}")
        if not 0 <= self.seed < _LIMIT:
            raise InputError(f"seed must be between 0 and 2**63 - 1; got {self.seed}")

    def words(self, site: int, sample: int, row: int, count: int) -> Words:
        """The first `count` words of one sample of one row at one site, uint32 `[count]`."""
        key = np.array([self.seed, site], dtype=np.uint64)
        counter = np.array([0, sample, row, 0], dtype=np.uint64)
        raw = np.random.Philox(key=key, counter=counter).random_raw((count + 1) // 2)
        words: Words = raw.view(np.uint32)
        if sys.byteorder == "big":  # the low half of a word comes first everywhere
            words = words.reshape(-1, 2)[:, ::-1].reshape(-1)
        return words[:count]
