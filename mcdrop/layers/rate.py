"""Rates: probabilities to drop, checked where a layer is made."""

from __future__ import annotations

from mcdrop.arguments import parsed
from mcdrop.errors import InputError


def checked_rate(
    p: object,
    *,
    name: str = "p",
    most: float = 1.0,
    below_one: bool = False,
    above_zero: bool = False,
) -> float:
    """A probability to drop.

    Args:
        p: what the caller passed.
        name: of the argument.
        most: the largest one.
        below_one: whether something must be kept.
        above_zero: whether something must be dropped.

    Raises:
        InputError: it is no number in the range.
    """
    rate = parsed(p)
    fits = rate is not None and 0.0 <= rate <= most and not (below_one and rate == 1.0)
    if rate is None or not fits or (above_zero and rate == 0.0):
        least = "above 0" if above_zero else "at least 0"
        limit = "below 1" if below_one else f"at most {most:g}"
        raise InputError(f"{name}, the probability to drop, must be {least} and {limit}; got {p!r}")
    return rate
