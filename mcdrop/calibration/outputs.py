"""Calibrators of several numbers that a model predicts at once: each output has one of its own.

Outputs may be in different units, or be off by different factors: one number for all of them would
make some intervals too wide and others too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.rules import IntervalRule
from mcdrop.errors import InputError

NumberScaling: TypeAlias = DeviationScaling | QuantileRecalibration
IntervalKind: TypeAlias = IntervalRule | ConformalQuantiles


@dataclass(frozen=True, slots=True)
class OutputScalings:
    """One for each place of the last axis of a prediction's mean.

    Attributes:
        parts: of one kind.
    """

    parts: tuple[NumberScaling, ...]

    def __post_init__(self) -> None:
        _alike(self.parts)


@dataclass(frozen=True, slots=True)
class OutputIntervals:
    """One for each place of the last axis of a prediction's mean.

    Attributes:
        parts: of one kind; of conformal quantiles, for one level.
    """

    parts: tuple[IntervalKind, ...]

    def __post_init__(self) -> None:
        _alike(self.parts)
        if len({part.level for part in self.parts if isinstance(part, ConformalQuantiles)}) > 1:
            raise InputError("conformal quantiles of all outputs must be for one level")


def _alike(parts: tuple[object, ...]) -> None:
    if len(parts) < 2 or len({type(part) for part in parts}) > 1:
        raise InputError(
            f"expected calibrators of one kind, one for each of several outputs; got {len(parts)}: "
            f"{', '.join(sorted({type(part).__name__ for part in parts}))}"
        )
