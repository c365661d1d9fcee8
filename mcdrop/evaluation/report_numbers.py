"""How the report writes numbers: as many digits as their intervals support."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mcdrop.evaluation.charts.scale import power
from mcdrop.evaluation.document import Estimate, Figure, Number

NONE = "\N{EN DASH}"
_SHARES = (
    "accuracy",
    "mean_confidence",
    "confidence_gap",
    "recall",
    "precision",
    "epistemic_share",
    "mean_iou",
    "iou",
)
_SHARE_BEGINNINGS = ("coverage_", "set_coverage_", "false_positive_rate")
_DIGITS = 3  # of a number that has no interval
_MOST_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write numbers that belong together.

    Attributes:
        decimals: after the point.
        exponent: of a power of ten that is taken out.
        percent: whether they are shares.
    """

    decimals: int
    exponent: int = 0
    percent: bool = False

    def bare(self, value: Number) -> str:
        """A number without its unit; a dash for none."""
        if value is None:
            return NONE
        if self.percent:
            return signed(100.0 * value, self.honest(value).decimals)
        return signed(value / 10.0**self.exponent, self.decimals)

    def __call__(self, value: Number) -> str:
        """A number with its unit; a dash for none."""
        return self.bare(value) + self.unit if value is not None else NONE

    @property
    def unit(self) -> str:
        """What stands behind the digits."""
        if self.percent:
            return "%"
        return f" × {power(self.exponent)}" if self.exponent else ""

    def honest(self, *values: Number) -> Format:
        """With decimals enough that no share is written as 0% or 100% unless it is that."""
        decimals = self.decimals
        for value in values if self.percent else ():
            if value is None or value in {0.0, 1.0}:
                continue
            while decimals < 12 and round(100.0 * value, decimals) in {0.0, 100.0}:
                decimals += 1
        return replace(self, decimals=decimals)


def is_share(name: str) -> bool:
    """Whether a figure of this name is read in percent."""
    return name in _SHARES or name.startswith(_SHARE_BEGINNINGS)


def of_figure(figure: Figure) -> Format:
    """How a figure and the ends of its interval are written.

    Example:
        >>> rmse = Figure(name="root_mean_squared_error", title="RMSE", topic="scores", meaning="",
        ...               better="lower", value=2.90361, low=2.5571, high=3.2501)
        >>> of_figure(rmse)(rmse.value)
        '2.90'
    """
    return of_estimate(figure.name, figure)


def of_estimate(name: str, found: Estimate) -> Format:
    """How an estimate and the ends of its interval are written."""
    known = (found.value, found.low, found.high)
    wide = 0.0
    if found.low is not None and found.high is not None:
        wide = found.high - found.low
    if is_share(name):
        decimals = _decimals(100.0 * wide, 1, least=1) if wide > 0.0 else 1
        return Format(decimals, percent=True).honest(*known)
    exponent = _exponent(known)
    if wide > 0.0:
        limit = _digits(known, exponent, _MOST_DIGITS)
        return Format(min(_decimals(wide / 10.0**exponent, 2), limit), exponent)
    return Format(_digits(known, exponent, _DIGITS), exponent)


def of_column(name: str, values: Sequence[Number]) -> Format:
    """How the numbers of a column are written, all with the same decimals."""
    if is_share(name):
        return Format(1, percent=True)
    exponent = _exponent(values)
    return Format(_digits(values, exponent, _DIGITS), exponent)


def interval(figure: Figure) -> str:
    """The ends of a figure's interval, with the decimals of its value; a dash if it has none.

    Example:
        >>> accuracy = Figure(name="accuracy", title="Accuracy", topic="scores", meaning="",
        ...                   better="higher", value=0.95123, low=0.93987, high=0.96241)
        >>> interval(accuracy)
        '94.0 to 96.2%'
    """
    return ends(figure, of_figure(figure))


def ends(found: Estimate, write: Format) -> str:
    """The ends of an interval in a format; a dash if there is none."""
    if found.low is None or found.high is None:
        return NONE
    write = write.honest(found.low, found.high)
    return f"{write.bare(found.low)} to {write(found.high)}"


def signed(value: float, decimals: int) -> str:
    """Digits with separators of thousands, and a minus sign instead of a hyphen."""
    text = f"{round(value, decimals) + 0.0:,.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def points(value: float) -> str:
    """A difference of shares in percentage points, without its sign.

    Example:
        >>> points(-0.02286), points(0.01)
        ('2.3 points', '1.0 points')
    """
    size = 100.0 * abs(value)
    decimals = 1 if size >= 0.05 else 2
    return f"{size:.{decimals}f} points" if size >= 0.005 else "less than 0.01 points"


def _exponent(values: Iterable[Number]) -> int:
    """A power of ten that is taken out of very small and very large numbers; 0 for the others."""
    size = max((abs(value) for value in values if value is not None), default=0.0)
    if size < 1e-300 or 1e-3 <= size < 1e7:
        return 0
    return math.floor(math.log10(size))


def _digits(values: Iterable[Number], exponent: int, digits: int) -> int:
    """Decimals that give the largest number so many digits."""
    size = max((abs(value) for value in values if value is not None), default=0.0)
    size /= 10.0**exponent
    return _decimals(size, digits) if size > 0.0 else digits - 1


def _decimals(size: float, digits: int, least: int = 0) -> int:
    return max(digits - 1 - math.floor(math.log10(max(size, 1e-12))), least)
