"""A rate that is multiplied in every step."""

from __future__ import annotations

from collections.abc import Sequence

from mcdrop.schedules.limits import bounds, multiplier, power, rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class ExponentialRate(TimedSchedule):
    r"""Multiplied by the same factor in every step, within bounds.

    .. math:: p(t) = \operatorname{clip}(p_0\,f^t,\ p_\text{lowest},\ p_\text{highest})

    Args:
        layers: a model, a layer, or a list of layers.
        start: p_0, the rate of step 0; above 0.
        factor: f; below 1 the rate falls, above 1 it rises.
        lowest: where it stops falling.
        highest: where it stops rising.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Example:
        >>> from torch import nn
        >>> schedule = ExponentialRate(nn.Dropout(), 0.5, 0.5, lowest=0.1)
        >>> [schedule.rate_at(t) for t in range(4)]
        [0.5, 0.25, 0.125, 0.1]
    """

    def __init__(
        self,
        layers: Layers,
        start: float,
        factor: float,
        *,
        lowest: float = 0.0,
        highest: float = 0.9,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        self.start = rate_argument("start", start)
        self.factor = multiplier(factor, self.start)
        self.lowest, self.highest = bounds(self.start, lowest, highest)
        super().__init__(layers, sites)

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        return min(max(power(self.start, self.factor, step), self.lowest), self.highest)
