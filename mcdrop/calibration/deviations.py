"""Recalibration of predicted numbers: of their standard deviations, and of their quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.densities import gaussians, inside
from mcdrop.metrics.functional.spread import probability_integral_transform

_KNOTS = 201


@dataclass(frozen=True, slots=True)
class DeviationScaling:
    r"""Multiplies standard deviations by a number (Laves et al. 2020, eq. 6).

    The number of the highest likelihood is the root mean squared error in units of the predicted
    deviations.

    Attributes:
        factor: above 1 where the predictions were too sure.

    Example:
        >>> mean, std = torch.zeros(2), torch.ones(2)
        >>> DeviationScaling.fit(mean, std, torch.tensor([3.0, -3.0])).factor
        3.0
    """

    factor: float

    @classmethod
    def fit(cls, mean: Tensor, std: Tensor, target: Tensor) -> DeviationScaling:
        """Find the factor on held-out cases.

        Args:
            mean: `[N, ...]`.
            std: above 0, of that shape.
            target: of that shape.

        Raises:
            InputError: an argument does not fit, or every prediction is exact.
        """
        mean, std, target = gaussians(mean, std, target)
        factor = float(((target - mean) / std).square().mean().sqrt())
        if not factor > 0.0:
            raise InputError("every prediction is exact: no factor above 0 is best")
        return cls(factor)

    def __call__(self, std: Tensor) -> Tensor:
        """Calibrated standard deviations."""
        return std * self.factor


@dataclass(frozen=True, slots=True)
class QuantileRecalibration:
    """Takes quantiles at levels that held-out targets showed to be right (Kuleshov et al. 2018).

    Their isotonic fit of observed to predicted levels is here the empirical distribution of the
    targets' places, which is the same, with straight lines between 201 knots.

    Attributes:
        levels: of the normal distribution's quantiles, to be taken for levels 0, 0.005, …, 1.
    """

    levels: Sequence[float]

    @classmethod
    def fit(cls, mean: Tensor, std: Tensor, target: Tensor) -> QuantileRecalibration:
        """Learn the levels on held-out cases; arguments as for `DeviationScaling.fit`."""
        places = probability_integral_transform(mean, std, target).flatten().sort().values
        ends = places.new_tensor([0.0]), places.new_tensor([1.0])
        known = torch.cat((ends[0], places, ends[1]))  # at levels i / (n + 1)
        wanted = torch.linspace(0.0, 1.0, _KNOTS, dtype=torch.float64, device=known.device) * (
            len(known) - 1
        )
        low = wanted.floor().long().clamp_max(len(known) - 2)
        knots = known[low] + (wanted - low) * (known[low + 1] - known[low])
        return cls(tuple(knots.tolist()))

    def quantile(self, mean: Tensor, std: Tensor, level: float) -> Tensor:
        """Calibrated quantile, of the shape of `mean`.

        Args:
            mean: `[N, ...]`.
            std: of that shape.
            level: strictly between 0 and 1.

        Raises:
            InputError: the level is not.
        """
        place = inside(level) * (len(self.levels) - 1)
        low = min(int(place), len(self.levels) - 2)
        below, above = self.levels[low], self.levels[low + 1]
        taken = torch.tensor(below + (place - low) * (above - below), dtype=torch.float64)
        z = float(torch.special.ndtri(taken.clamp(1e-9, 1.0 - 1e-9)))
        return mean + z * std

    def interval(self, mean: Tensor, std: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central interval that holds `level` of the targets: (lower, upper)."""
        tail = (1.0 - inside(level)) / 2.0
        return self.quantile(mean, std, tail), self.quantile(mean, std, 1.0 - tail)
