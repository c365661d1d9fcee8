"""Curriculum dropout: everything is kept at first, and less and less later."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcdrop.arguments import positive
from mcdrop.schedules.limits import rate_argument
from mcdrop.schedules.schedule import TimedSchedule
from mcdrop.schedules.targets import Layers


class CurriculumRate(TimedSchedule):
    r"""From a rate of 0 up to one that is approached and never passed: easy first, then hard.

    .. math:: \theta(t) = (1 - \bar\theta)\,e^{-\gamma t} + \bar\theta, \qquad
              p(t) = 1 - \theta(t) = \bar p\,(1 - e^{-\gamma t})

    with the probability to retain :math:`\theta`, from 1 down to :math:`\bar\theta = 1 - \bar p`.
    Some texts run it the other way, from a high rate to a low one: that is `DecreasingRate`.

    Args:
        layers: a model, a layer, or a list of layers.
        end: :math:`\bar p`, the rate that is approached.
        gamma: how fast; the distance that is left falls by e in 1 / gamma steps. 10 over the number
            of steps there will be leaves less than a ten-thousandth of it at the end.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Source: Morerio et al. 2017, "Curriculum dropout".

    Example:
        >>> from torch import nn
        >>> schedule = CurriculumRate(nn.Dropout(), 0.5, gamma=0.1)
        >>> [round(schedule.rate_at(t), 4) for t in (0, 10, 100)]
        [0.0, 0.3161, 0.5]
    """

    def __init__(
        self,
        layers: Layers,
        end: float,
        *,
        gamma: float,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        self.end = rate_argument("end", end)
        self.gamma = positive("gamma", gamma)
        super().__init__(layers, sites)

    def rate_at(self, step: int) -> float:
        """The rate of a step."""
        return -self.end * math.expm1(-self.gamma * step) + 0.0  # not -0.0 at the beginning
