"""A high rate that falls to a low one: the reverse of curriculum dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcdrop.arguments import positive
from mcdrop.errors import InputError
from mcdrop.schedules.limits import rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class DecreasingRate(TimedSchedule):
    r"""From a high rate down to a low one that is approached: hard first, then easy.

    .. math:: p(t) = (p_0 - \bar p)\,e^{-\gamma t} + \bar p

    What some texts call curriculum dropout. It is the other way round than that of Morerio et al.,
    whose rate rises (`CurriculumRate`), and near to annealed dropout, whose rate falls to 0.

    Args:
        layers: a model, a layer, or a list of layers.
        start: p_0, the rate of step 0.
        end: :math:`\bar p`, the rate that is approached; below `start`.
        gamma: how fast; the distance that is left falls by e in 1 / gamma steps.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Source: Rennie, Goel & Thomas 2014, "Annealed dropout training of deep networks", for the
    direction; the curve is that of Morerio et al. 2017.

    Example:
        >>> from torch import nn
        >>> schedule = DecreasingRate(nn.Dropout(), 0.5, 0.1, gamma=0.1)
        >>> [round(schedule.rate_at(t), 4) for t in (0, 10, 200)]
        [0.5, 0.2472, 0.1]
    """

    def __init__(
        self,
        layers: Layers,
        start: float,
        end: float,
        *,
        gamma: float,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        self.start = rate_argument("start", start)
        self.end = rate_argument("end", end)
        if self.end >= self.start:
            raise InputError(
                f"end must be below start; got start={start!r}, end={end!r}. For a rate that "
                "rises, take CurriculumRate"
            )
        self.gamma = positive("gamma", gamma)
        super().__init__(layers, sites)

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        left = math.exp(-self.gamma * step)
        return self.start * left + self.end * (1.0 - left)
