"""Masks: a counter-based stream of words, laws that turn words into masks, and the bank of them."""

from mcdrop.sampling.bank import Banks, MaskBank, Masks, Sampling, Shapes
from mcdrop.sampling.patterns import BLOCK
from mcdrop.sampling.stream import MaskStream

__all__ = ["BLOCK", "Banks", "MaskBank", "MaskStream", "Masks", "Sampling", "Shapes"]
