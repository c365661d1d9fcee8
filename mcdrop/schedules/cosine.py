"""A rate that changes slowly at both ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcdrop.arguments import integer
from mcdrop.schedules.limits import rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class CosineRate(TimedSchedule):
    r"""From one rate to another along half a period of a cosine, and there it stays.

    .. math:: p(t) = p_T + \tfrac12 (p_0 - p_T)\,\bigl(1 + \cos(\pi \min(t / T,\ 1))\bigr)

    Args:
        layers: a model, a layer, or a list of layers.
        start: p_0, the rate of step 0.
        end: p_T, the rate from step T on.
        steps: T.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Source: the curve of Loshchilov & Hutter 2017, "SGDR", equation 5, which is of learning rates.

    Example:
        >>> from torch import nn
        >>> schedule = CosineRate(nn.Dropout(), 0.0, 0.4, steps=100)
        >>> round(schedule.rate_at(25), 4), round(schedule.rate_at(50), 4), schedule.rate_at(100)
        (0.0586, 0.2, 0.4)
    """

    def __init__(
        self,
        layers: Layers,
        start: float,
        end: float,
        *,
        steps: int,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        self.start = rate_argument("start", start)
        self.end = rate_argument("end", end)
        self.steps = integer("steps", steps, 1)
        super().__init__(layers, sites)

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        left = (1.0 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2.0
        return self.start * left + self.end * (1.0 - left)  # exact at both ends
