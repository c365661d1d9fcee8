"""Checks of plain arguments, with errors that say what was expected and what came."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from torch import nn

from mcdrop.errors import InputError


def integer(what: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """A whole number, NumPy's too, that is at least `least` and at most `most`.

    Raises:
        InputError: it is not.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    low = number is not None and least is not None and number < least
    if number is None or low or (most is not None and number > most):
        limits = "" if least is None else f", at least {least}"
        limits = limits if most is None else f", from {least} to {most}"
        raise InputError(f"{what} must be an integer{limits}; got {value!r}")
    return number


def one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    """Check that a name is one of those allowed.

    Raises:
        InputError: it is not.
    """
    if value not in allowed:
        raise InputError(f"{what} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def positive(what: str, value: object) -> float:
    """A finite number above zero, NumPy's too.

    Raises:
        InputError: it is not.
    """
    number = parsed(value)
    if number is None or not 0.0 < number < math.inf:
        raise InputError(f"{what} must be a number above 0; got {value!r}")
    return number


def fraction(what: str, value: object) -> float:
    """A number from 0 to 1.

    Raises:
        InputError: it is not.
    """
    number = parsed(value)
    if number is None or not 0.0 <= number <= 1.0:
        raise InputError(f"{what} must be a number from 0 to 1; got {value!r}")
    return number


def inside(level: object, what: str = "a level") -> float:
    """The level of a quantile or of an interval, strictly between 0 and 1.

    Raises:
        InputError: it is not.
    """
    number = parsed(level)
    if number is None or not 0.0 < number < 1.0:
        raise InputError(f"{what} lies strictly between 0 and 1; got {level!r}")
    return number


def number(what: str, value: object) -> float:
    """A number, or a tensor of one element; NaN and infinities too.

    Raises:
        InputError: it is neither.
    """
    number = parsed(value)
    if number is None:
        raise InputError(f"{what} must be a number, or a tensor of one element; got {value!r}")
    return number


def finite(what: str, value: object) -> float:
    """A number that is neither NaN nor infinite.

    Raises:
        InputError: it is not.
    """
    number = parsed(value)
    if number is None or not math.isfinite(number):
        raise InputError(f"{what} must be a finite number; got {value!r}")
    return number


def flag(what: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one of them.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{what} must be True or False; got {value!r}")
    return value


def module(what: str, value: object) -> nn.Module:
    """A module of torch.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, nn.Module):
        raise InputError(f"{what} must be a torch.nn.Module; got {value!r}")
    return value


def parsed(value: object) -> float | None:
    """A plain number, NumPy's or that of a tensor of one element; None for all else."""
    try:
        if not isinstance(value, bool | str):
            # a tensor with a gradient would warn
            plain = value.detach() if hasattr(value, "detach") else value
            return float(plain)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, RuntimeError):  # the last is torch's, for several elements
        pass
    return None
