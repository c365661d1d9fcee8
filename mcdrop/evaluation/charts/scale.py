"""From numbers to places on a chart: limits, round ticks and what they are called."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SIZE = 11.0  # of the letters, in units of the view box
# Widths of letters in sizes, those of wide fonts to be safe.
_LETTER, _THIN, _CAPITAL, _BROAD, _IDEOGRAPH = 0.63, 0.42, 0.75, 1.0, 1.1
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@dataclass(frozen=True, slots=True)
class Axis:
    """A direction of a chart.

    Attributes:
        low: first number.
        high: last number, greater than the first.
        ticks: numbers that are labelled, all from low to high.
        labels: one for each tick.
        title: what the numbers are, with the power of ten that the labels leave out.
        log: whether equal steps are equal ratios.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    title: str
    log: bool = False

    def share(self, value: float) -> float:
        """How far along a value is, 0 to 1; what is outside is put on the nearer end."""
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0)


def linear(
    values: Iterable[float],
    title: str,
    *,
    zero: bool = True,
    percent: bool = False,
    room: float = 180.0,
    stacked: bool = False,
    tight: bool = False,
) -> Axis:
    """An axis on which all of the values have a place.

    Args:
        values: numbers to show; none gives 0 to 1.
        title: what they are.
        zero: whether it reaches zero; if not, it ends near the values.
        percent: whether they are shares, to be read in percent.
        room: length of the axis.
        stacked: whether labels stand above each other, and so need little room.
        tight: whether it ends with the values; if not, it ends on ticks.

    Example:
        >>> linear([0.02, 0.29], "share", percent=True).labels
        ('0%', '10%', '20%', '30%')
    """
    low, high = limits(values, zero=zero)
    most = max(1, min(5, round(room / (1.9 * SIZE)))) if stacked else 6
    while True:
        axis = _ticked(low, high, most, title, percent=percent)
        axis = _cut(axis, low, high) if tight else axis
        wide = max(map(width, axis.labels), default=0.0) + SIZE
        if stacked or most == 1 or wide * len(axis.labels) <= room:
            return axis
        most -= 1


def shares(title: str, *, step: float = 0.2) -> Axis:
    """From 0% to 100%."""
    ticks = tuple(place * step for place in range(round(1.0 / step) + 1))
    return Axis(0.0, 1.0, ticks, tuple(f"{100 * tick:.0f}%" for tick in ticks), title)


def counts(values: Sequence[int], title: str, room: float) -> Axis:
    """A logarithmic axis of positive counts; those that find room are labelled, the last first."""
    low, high = float(min(values)), float(max(values))
    if low == high:
        low, high = low / 2.0, high * 2.0
    plain = Axis(low, high, (), (), title, log=True)
    kept: list[int] = []
    free = math.inf  # where the label on the right begins
    for value in sorted(set(values), reverse=True):
        half = width(f"{value:,}") / 2.0
        centre = room * plain.share(value)
        if centre + half + SIZE / 2.0 <= free:
            kept.insert(0, value)
            free = centre - half
    ticks = tuple(map(float, kept))
    return Axis(low, high, ticks, tuple(f"{value:,}" for value in kept), title, log=True)


def limits(values: Iterable[float], *, zero: bool) -> tuple[float, float]:
    """Lowest and highest number, apart even if all are the same."""
    found = list(values)
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    size = max(abs(low), abs(high))
    if size < 1e-300:
        return 0.0, 1.0
    if high - low < 1e-9 * size:
        low, high = low - 0.1 * size, high + 0.1 * size
    return low, high


def width(text: str, size: float = SIZE) -> float:
    """Width of a text, estimated on the safe side."""
    return size * sum(map(_letter, text))


def shorten(text: str, room: float) -> str:
    """A text, or as much of it as there is room for and an ellipsis.

    Example:
        >>> shorten("mutual information", 80.0)
        'mutual info…'
    """
    if width(text) <= room:
        return text
    while text and width(text) + SIZE > room:
        text = text[:-1]
    return text.rstrip() + "…"


def power(exponent: int) -> str:
    """A power of ten.

    Example:
        >>> power(-6)
        '10⁻⁶'
    """
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def counted(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "case"), counted(1493, "case")
        ('1 case', '1,493 cases')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _letter(letter: str) -> float:
    if letter in "iljtfr.,:;'|!()[] -":
        return _THIN
    if letter in "mwMW%@":
        return _BROAD
    if unicodedata.east_asian_width(letter) in "WF" or ord(letter) >= 0x10000:
        return _IDEOGRAPH
    return _CAPITAL if letter.isupper() else _LETTER


def _ticked(low: float, high: float, most: int, title: str, *, percent: bool) -> Axis:
    """Round numbers, at most `most` steps of them; the axis is made to end on one."""
    step = _step((high - low) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(step * place for place in range(first, last + 1))
    size = max(abs(ticks[0]), abs(ticks[-1]))
    if percent and step >= 1e-6 and size < 1e3:
        return Axis(ticks[0], ticks[-1], ticks, _plain(ticks, step, 0.01, "%"), title)
    exponent = math.floor(math.log10(size) + 1e-9)
    if -3 <= exponent < 5:
        return Axis(ticks[0], ticks[-1], ticks, _plain(ticks, step, 1.0), title)
    exponent = 3 * (exponent // 3)
    labels = _plain(ticks, step, 10.0**exponent)
    return Axis(ticks[0], ticks[-1], ticks, labels, f"{title}, ×{power(exponent)}")


def _cut(axis: Axis, low: float, high: float) -> Axis:
    """The axis without what lies outside of the limits."""
    slack = 1e-9 * (high - low)
    pairs = zip(axis.ticks, axis.labels, strict=True)
    kept = [(t, label) for t, label in pairs if low - slack <= t <= high + slack]
    ticks, labels = tuple(t for t, _ in kept), tuple(label for _, label in kept)
    return replace(axis, low=low, high=high, ticks=ticks, labels=labels)


def _step(least: float) -> float:
    """The smallest round number that is not smaller."""
    unit = 10.0 ** math.floor(math.log10(least))
    return next(part * unit for part in _NICE if part * unit >= least * (1.0 - 1e-9))


def _plain(ticks: Sequence[float], step: float, unit: float, sign: str = "") -> tuple[str, ...]:
    """Ticks in a unit, with the decimals that their step needs and no minus before a zero."""
    decimals = 0
    while decimals < 12 and abs(round(step / unit, decimals) - step / unit) > 1e-6 * step / unit:
        decimals += 1
    texts = (f"{round(tick / unit, decimals) + 0.0:,.{decimals}f}" for tick in ticks)
    return tuple(text.replace("-", "\N{MINUS SIGN}") + sign for text in texts)
