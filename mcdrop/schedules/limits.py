"""Arguments of schedules: rates, their bounds, and factors."""

from __future__ import annotations

import math

from mcdrop.arguments import positive
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


def rate_argument(name: str, value: object) -> float:
    """A rate that a layer is to be given: one that keeps something.

    Raises:
        InputError: it is no probability below 1.
    """
    return checked_rate(value, name=name, below_one=True)


def bounds(start: float, lowest: object, highest: object) -> tuple[float, float]:
    """The least and the largest rate, with the first one between them.

    Raises:
        InputError: they are no rates, or in another order.
    """
    low, high = rate_argument("lowest", lowest), rate_argument("highest", highest)
    if not low <= start <= high:
        raise InputError(
            f"start must lie between lowest and highest; got start={start:g}, lowest={low:g}, "
            f"highest={high:g}"
        )
    return low, high


def multiplier(factor: object, start: float) -> float:
    """What a rate is multiplied by.

    Raises:
        InputError: it is not above 0, or is 1, or there is nothing to multiply.
    """
    value = positive("factor", factor)
    if value == 1.0:
        raise InputError("factor must be below 1 (the rate falls) or above 1 (it rises); got 1")
    if start == 0.0:
        raise InputError("start must be above 0: a factor leaves a rate of 0 where it is")
    return value


def power(start: float, factor: float, times: int) -> float:
    """A rate multiplied so many times; infinite rather than too large for a number."""
    try:
        return start * factor**times
    except OverflowError:
        return math.inf
