"""Masks: a counter-based stream of words, laws that turn words into masks, and the bank of them."""

from mcdrop.sampling.bank import KEEP_BYTES, Banks, MaskBank, Masks, Sampling, Shapes
from mcdrop.sampling.patterns import BLOCK
from mcdrop.sampling.stream import MaskStream

__all__ = [
    "BLOCK",
    "KEEP_BYTES",
    "Banks",
    "MaskBank",
    "MaskStream",
    "Masks",
    "Sampling",
    "Shapes",
]
