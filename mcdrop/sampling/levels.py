"""Uniform levels: 32-bit numbers that laws other than drop-out turn into noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mcdrop.sampling.patterns import BLOCK
from mcdrop.sampling.stream import MASKS, MaskStream, Words

Levels = npt.NDArray[np.uint32]


def independent(stream: MaskStream, site: int, blocks: range, rows: range, units: int) -> Levels:
    """Independent levels, uint32 `[blocks, 16, rows, units]`."""
    return _words(stream, site, blocks, rows, units).astype(np.uint32)


def balanced(stream: MaskStream, site: int, blocks: range, rows: range, units: int) -> Levels:
    """One level in each sixteenth of the range for every unit, `[blocks, 16, rows, units]`.

    A Latin hypercube: which sample has which sixteenth is shuffled for each unit on its own, and
    within it the level is uniform, so that each sample alone is uniform.
    """
    words = _words(stream, site, blocks, rows, units)
    stratum = words.argsort(1).argsort(1).astype(np.uint64)  # by the upper bits: a random order
    jitter = words & np.uint64(0xFFFFFFFF)
    return ((stratum << np.uint64(32) | jitter) // np.uint64(BLOCK)).astype(np.uint32)


def _words(stream: MaskStream, site: int, blocks: range, rows: range, units: int) -> Words:
    words = stream.words(site, blocks, MASKS, rows, BLOCK * units)
    return words.reshape(len(blocks), len(rows), BLOCK, units).swapaxes(1, 2)
