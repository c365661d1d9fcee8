"""A rate that changes by as much in every step."""

from __future__ import annotations

from collections.abc import Sequence

from mcdrop.arguments import integer
from mcdrop.schedules.limits import rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class LinearRate(TimedSchedule):
    r"""From one rate to another in a straight line, and there it stays.

    .. math:: p(t) = p_0 + (p_T - p_0)\,\min(t / T,\ 1)

    Args:
        layers: a model, a layer, or a list of layers.
        start: p_0, the rate of step 0.
        end: p_T, the rate from step T on.
        steps: T.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Source: Rennie, Goel & Thomas 2014, "Annealed dropout training of deep networks", where the
    rate falls to 0.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 1))
        >>> schedule = LinearRate(net, 0.5, 0.1, steps=4)
        >>> for epoch in range(4):
        ...     schedule.step()
        >>> net[1].p
        0.1
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
        share = min(step / self.steps, 1.0)
        return self.start * (1.0 - share) + self.end * share  # exact at both ends
