"""Masks: a counter-based stream of words, laws that turn words into masks, and the bank of them."""

from mcdrop.sampling.bank import MaskBank, Masks
from mcdrop.sampling.laws import draw
from mcdrop.sampling.stream import MaskStream

__all__ = ["MaskBank", "MaskStream", "Masks", "draw"]
