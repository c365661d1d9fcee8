r"""Drop patterns: which of a block's samples drop a unit, as one 16-bit number for each unit.

Bit s of a pattern tells that the block's sample s drops the unit. A pattern is chosen in two steps:
how many of the block's samples drop the unit, and which ones, uniformly among all subsets of that
size. With the binomial law for the count, samples are independent. With the balanced law the count
of n samples stays within one of p·n at the end of every block of a cycle of 256 samples, while each
sample alone is still exactly Bernoulli(p): stratified (Latin hypercube) sampling of each unit in an
order of its own (McKay, Beckman & Conover 1979). Cycles are independent of one another.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from mcdrop.sampling.stream import MASKS, OFFSETS, MaskStream, Words

BLOCK: Final = 16  # samples of a block: the bits of a pattern
Patterns = npt.NDArray[np.uint16]

# Blocks over which the rounding of counts is carried. Whether two units tend to drop in the same
# blocks is settled once for a cycle: if it were for all samples, the error that this makes in what
# the two do together would never average out.
CYCLE: Final = 16

_ONE = 1 << 32  # probabilities are whole multiples of 2**-32
_LOW = np.uint64(_ONE - 1)
_HALF = np.uint64(32)


def balanced(
    stream: MaskStream, site: int, blocks: range, rows: range, units: int, p: float
) -> Patterns:
    """Patterns whose counts are as even as whole numbers allow, `[blocks, rows, units]`.

    The first k blocks of a cycle drop a unit `floor(16·k·p + u)` times, u uniform on [0, 1) for
    each unit and cycle: the rounding carries over from block to block, and a block can be made
    without those before it. The blocks asked for lie in one cycle.
    """
    dropped = round(p * _ONE)
    whole, rest = divmod(BLOCK * dropped, _ONE)
    words = stream.words(site, blocks, MASKS, rows, units)
    if rest == 0:
        return _subset(np.uint64(whole), words)
    cycle, first = divmod(blocks.start, CYCLE)
    places = np.arange(first, first + len(blocks), dtype=np.uint64)[:, None, None]
    offset = stream.words(site, range(cycle, cycle + 1), OFFSETS, rows, units) >> _HALF
    before = (offset + places * np.uint64(BLOCK * dropped)) & _LOW
    return _subset((before + np.uint64(BLOCK * dropped)) >> _HALF, words)


def independent(
    stream: MaskStream, site: int, blocks: range, rows: range, units: int, p: float
) -> Patterns:
    """Patterns of independent samples: the count is binomial, `[blocks, rows, units]`."""
    words = stream.words(site, blocks, MASKS, rows, units)
    if p == 0.5:  # every subset is as likely as any other: a pattern is 16 bits of the word
        return words.astype(np.uint16)
    # the upper half of a word chooses the count, the lower half the subset
    return _subset(_counts(p, words), words)


def _subset(counts: npt.NDArray[np.uint64] | np.uint64, words: Words) -> Patterns:
    """A pattern with so many bits set, each as likely as the others, by the words' lower halves."""
    table, first, size = _table()
    chosen = first[counts] + ((words & _LOW) * size[counts] >> _HALF)
    return table[chosen.view(np.int64)]


def _counts(p: float, words: Words) -> npt.NDArray[np.uint64]:
    """Binomial counts by inversion of the words' upper halves."""
    limits, coarse = _binomial(p)
    counts = coarse[(words >> np.uint64(48)).view(np.int64)]
    # a cell of 16 bits that a limit cuts in two needs the other 16
    torn = counts == _TORN
    counts[torn] = np.searchsorted(limits, words[torn] >> _HALF, side="right")
    return counts


_TORN = np.uint64(BLOCK + 1)


@lru_cache(maxsize=256)
def _table() -> tuple[Patterns, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """All patterns ordered by their number of bits; where each number begins, and how many."""
    patterns = np.arange(1 << BLOCK, dtype=np.uint32)
    bits = sum(patterns >> np.uint32(bit) & np.uint32(1) for bit in range(BLOCK))
    size = np.array([math.comb(BLOCK, d) for d in range(BLOCK + 1)], dtype=np.uint64)
    first = np.concatenate(([0], np.cumsum(size)[:-1])).astype(np.uint64)
    return np.argsort(bits, kind="stable").astype(np.uint16), first, size


@lru_cache(maxsize=256)
def _binomial(p: float) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Limits of the cumulative binomial law in units of 2**-32; the count in each 16-bit cell."""
    terms = [math.comb(BLOCK, d) * p**d * (1.0 - p) ** (BLOCK - d) for d in range(BLOCK)]
    limits = np.round(np.cumsum(terms) * _ONE).astype(np.uint64)
    cells = np.arange(1 << 16, dtype=np.uint64) << np.uint64(16)
    low = np.searchsorted(limits, cells, side="right")
    high = np.searchsorted(limits, cells + np.uint64(0xFFFF), side="right")
    return limits, np.where(low == high, low, int(_TORN)).astype(np.uint64)
