"""The search for the best temperature, and what to say where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mcdrop.errors import InputError

# Logarithms of the temperatures that are tried, how many first, and how close is close enough.
_FARTHEST, _PLACES, _CLOSE = 5.0, 40, 1e-7


def best_temperature(
    loss: Callable[[Tensor], Tensor], *, votes: bool = False, prior_cases: int = 0
) -> float:
    """The temperature that makes the mean loss least, a function of its inverse's logarithm.

    With `prior_cases`, the number of cases, that logarithm has a standard normal prior.

    Towards 0 each sample is left with a vote, so that inside of an average the lowest temperature
    can be best (`votes`); outside of it nothing but certainty is left, and it never should.

    A grid first, then a golden section: inside of an average the loss has more than one hollow, and
    flat ends where a gradient leads nowhere.

    Args:
        loss: the mean loss, given the logarithm of the inverse temperature.
        votes: whether the lowest temperature may be the best.
        prior_cases: over how many cases `loss` is a mean; 0 for no prior.

    Raises:
        InputError: no temperature within reach is best.
    """

    def alone(place: float) -> float:
        return float(loss(torch.tensor(place, dtype=torch.float64)))

    def at(place: float) -> float:
        return alone(place) + (0.5 * place * place / prior_cases if prior_cases else 0.0)

    grid = [-_FARTHEST + step * 2.0 * _FARTHEST / _PLACES for step in range(_PLACES + 1)]
    losses = [at(place) for place in grid]
    best = min(range(len(grid)), key=losses.__getitem__)
    if losses[0] <= losses[best]:
        raise InputError(_beyond_the_largest(alone))
    if losses[-1] <= losses[best]:
        if votes:
            return math.exp(-_FARTHEST)
        raise InputError(_beyond_the_least(alone))
    low, high = grid[best - 1], grid[best + 1]
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = at(left), at(right)
    while high - low > _CLOSE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = at(right)
    return math.exp(-(low + high) / 2.0)


def _beyond_the_largest(at: Callable[[float], float]) -> str:
    """Why no temperature up to the largest one is best: a larger one is, or none at all."""
    chance = at(-700.0)  # the inverse is 0 but for its last digit: all classes are alike
    if min(at(-times * _FARTHEST) for times in range(1, 5)) < chance - 1e-12:
        return (
            f"the best temperature is larger than the range, {math.exp(_FARTHEST):.0f}: are these "
            "logits on another scale? Divide them by a number first"
        )
    return "no temperature is best: the predictions are no better than chance"


def _beyond_the_least(at: Callable[[float], float]) -> str:
    """Why no temperature down to the least one is best: a lower one is, or none at all."""
    if at(4.0 * _FARTHEST) > at(_FARTHEST):
        return (
            f"the best temperature is smaller than the range, {math.exp(-_FARTHEST):.2g}: are "
            "these logits on another scale? Multiply them by a number first"
        )
    return (
        "no temperature is best: it needs predictions that are sometimes wrong. Take more held-out "
        "cases, or a temperature inside of the average over samples, which has a prior"
    )
