"""Numbers that callers pass: of Python, of NumPy, of torch, and what is none."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from mcdrop import InputError
from mcdrop.arguments import fraction, inside, integer, number, positive
from mcdrop.layers.rate import checked_rate

HALVES = [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2), torch.tensor(0.5)]
PARSERS = [
    checked_rate,
    inside,
    lambda value: fraction("share", value),
    lambda value: number("score", value),
    lambda value: positive("factor", value),
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("value", [*HALVES, torch.nn.Parameter(torch.tensor([0.5]))])
def test_numbers_of_any_library_are_numbers(
    parse: Callable[[object], float], value: object
) -> None:
    got = parse(value)
    assert type(got) is float
    assert got == 0.5


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("value", [None, "0.5", True, [0.5], torch.tensor([0.5, 0.5]), 0.5j, {}])
def test_what_is_no_number_is_named(parse: Callable[[object], float], value: object) -> None:
    with pytest.raises(InputError, match="got ") as error:
        parse(value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_no_fraction(value: float) -> None:
    with pytest.raises(InputError, match="share must be a number from 0 to 1; got"):
        fraction("share", value)


@pytest.mark.parametrize("value", [0.0, 1, -0.1, float("nan")])
def test_no_level(value: float) -> None:
    with pytest.raises(InputError, match="an interval's level lies strictly between 0 and 1; got"):
        inside(value, "an interval's level")


def test_ends_of_fractions_are_fractions() -> None:
    assert (fraction("share", 0), fraction("share", 1)) == (0.0, 1.0)


@pytest.mark.parametrize("value", [1.0, True, "3", None, 2, 7, torch.tensor(3.0)])
def test_no_integer_from_3_to_6(value: object) -> None:
    with pytest.raises(InputError, match="size must be an integer, from 3 to 6; got"):
        integer("size", value, 3, 6)


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_integers_of_any_library_are_integers(value: object) -> None:
    assert integer("size", value, 3, 6) == 3
