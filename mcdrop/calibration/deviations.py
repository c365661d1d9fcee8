"""Recalibration of predicted numbers: of their standard deviations, and of their quantiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.calibration.scaling import numbers, positive
from mcdrop.errors import InputError
from mcdrop.metrics.functional.densities import gaussians

_KNOTS = 199


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

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        positive("factor", self.factor)

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
    r"""Takes quantiles where held-out errors showed them to be (Kuleshov et al. 2018).

    Their isotonic fit of observed to predicted levels is here the empirical distribution of errors
    in predicted standard deviations, :math:`(y - \mu) / \sigma`, whatever the levels that a normal
    distribution gives to them: deviations that are many times too small are repaired as well.
    Between knots, and beyond the outermost two, it follows straight lines over the normal
    distribution's quantiles (a Q-Q plot): its tails are normal.

    Attributes:
        places: quantiles of those errors in standard deviations, rising, at the levels 1/200, …,
            199/200 (for 199 of them).
    """

    places: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        found = numbers("places", self.places)
        if len(found) < 2 or bool((found.diff() < 0.0).any()):
            raise InputError("places must be two or more rising numbers")

    @classmethod
    def fit(cls, mean: Tensor, std: Tensor, target: Tensor) -> QuantileRecalibration:
        """Learn the places on held-out cases; arguments as for `DeviationScaling.fit`.

        Raises:
            InputError: an argument does not fit, or there are fewer than two targets.
        """
        mean, std, target = gaussians(mean, std, target)
        errors = ((target - mean) / std).flatten().sort().values
        if len(errors) < 2:
            raise InputError("expected two held-out targets at least, to know their spread")
        wanted = torch.special.ndtri(_levels(_KNOTS)).to(errors.device)
        return cls(tuple(_on_the_line(wanted, errors).tolist()))

    def quantile(self, mean: Tensor, std: Tensor, level: float) -> Tensor:
        """Calibrated quantile, of the shape of `mean`.

        Args:
            mean: `[N, ...]`.
            std: of that shape.
            level: strictly between 0 and 1.

        Raises:
            InputError: the level is not.
        """
        wanted = torch.special.ndtri(torch.tensor([inside(level)], dtype=torch.float64))
        return mean + float(_on_the_line(wanted, numbers("places", self.places))) * std

    def interval(self, mean: Tensor, std: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central interval that holds `level` of the targets: (lower, upper)."""
        tail = (1.0 - inside(level)) / 2.0
        return self.quantile(mean, std, tail), self.quantile(mean, std, 1.0 - tail)


def _levels(number: int) -> Tensor:
    """Of so many values in order, float64."""
    return torch.arange(1, number + 1, dtype=torch.float64) / (number + 1)


def _on_the_line(wanted: Tensor, values: Tensor) -> Tensor:
    """A Q-Q plot's line through rising values, `[N]`, at normal quantiles, `[K]`.

    Straight between values; beyond them, with the slope of the line from the first to the last.
    """
    known = torch.special.ndtri(_levels(len(values))).to(values.device)
    low = torch.searchsorted(known, wanted).sub(1).clamp(0, len(known) - 2)
    share = ((wanted - known[low]) / (known[low + 1] - known[low])).clamp(0.0, 1.0)
    within = torch.lerp(values[low], values[low + 1], share)
    slope = (values[-1] - values[0]) / (known[-1] - known[0])
    line: Tensor = within + slope * (wanted - wanted.clamp(known[0], known[-1]))
    return line
