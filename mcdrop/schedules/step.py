"""A rate that is multiplied every so many steps."""

from __future__ import annotations

from collections.abc import Sequence

from mcdrop.arguments import integer
from mcdrop.schedules.limits import bounds, multiplier, power, rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class StepRate(TimedSchedule):
    r"""Multiplied by a factor every k steps, within bounds; the same in between.

    .. math:: p(t) = \operatorname{clip}(p_0\,f^{\lfloor t / k \rfloor},\ p_\text{lowest},\
              p_\text{highest})

    Args:
        layers: a model, a layer, or a list of layers.
        start: p_0, the rate of step 0; above 0.
        factor: f; below 1 the rate falls, above 1 it rises.
        every: k.
        lowest: where it stops falling.
        highest: where it stops rising.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Example:
        >>> from torch import nn
        >>> schedule = StepRate(nn.Dropout(), 0.1, 2.0, every=2, highest=0.5)
        >>> [schedule.rate_at(t) for t in range(7)]
        [0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.5]
    """

    def __init__(
        self,
        layers: Layers,
        start: float,
        factor: float,
        *,
        every: int,
        lowest: float = 0.0,
        highest: float = 0.9,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        self.start = rate_argument("start", start)
        self.factor = multiplier(factor, self.start)
        self.every = integer("every", every, 1)
        self.lowest, self.highest = bounds(self.start, lowest, highest)
        super().__init__(layers, sites)

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        raised = power(self.start, self.factor, step // self.every)
        return min(max(raised, self.lowest), self.highest)
