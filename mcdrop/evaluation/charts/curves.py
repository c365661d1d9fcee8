"""Charts of curves: risk over coverage, error by uncertainty, convergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mcdrop.evaluation.charts.drawing import Entry, legend, panel, room, segment, svg
from mcdrop.evaluation.charts.marks import FOOT, HEAD, curves, named, ribbon, words
from mcdrop.evaluation.charts.scale import counts, linear, shares
from mcdrop.evaluation.document import Convergence, Line, Number

Risk = Literal["share", "number"]  # of errors, or the root mean squared error

_HEIGHT = 190.0
_SMALL = 90.0
_NATS = 0.05  # of log-likelihood that nobody would notice
_RISK = {"share": "share of errors", "number": "root mean squared error"}


def risk_coverage(lines: Sequence[Line], unit: Risk, *, standalone: bool = False) -> str:
    """Risk of the least uncertain share of cases; where all lines end is the risk of all cases.

    Args:
        lines: one for each uncertainty.
        unit: what risk is.
        standalone: whether the drawing brings its colours and background with it.
    """
    ends = [line.y[-1] for line in lines if line.y]
    whole = [Entry("all cases", "ideal")] if ends else []
    drawn, top = legend((*named(lines), *whole))
    values = [y for line in lines for y in line.y]
    y = linear(
        values, f"{_RISK[unit]} in them", percent=unit == "share", room=_HEIGHT, stacked=True
    )
    where = panel(shares("least uncertain cases"), y, top + HEAD, _HEIGHT)
    drawn += where.frame()
    if ends:
        level = where.py(ends[0])
        drawn.append(segment(where.left, level, where.right, level, "ideal"))
    drawn += curves(where, lines)
    return svg("Risk and coverage", where.bottom + FOOT, drawn, standalone=standalone)


def error(line: Line, unit: Risk, *, standalone: bool = False) -> str:
    """Error of parts of the cases by rising uncertainty.

    Args:
        line: uncertainty and error of each part.
        unit: what the error is; a number is meant to be the uncertainty, and the diagonal is drawn.
        standalone: whether the drawing brings its colours and background with it.
    """
    number = unit == "number"
    xs, ys = list(line.x), list(line.y)
    if number and xs and max(*xs, *ys) <= 3.0 * min(max(xs), max(ys)):
        xs, ys = [*xs, max(ys)], [*ys, max(xs)]  # the same limits for both, if neither is lost
    x_title = words(line.name) + ("" if number else ", in nats")
    x = linear(xs, x_title, room=room())
    y = linear(ys, _RISK[unit], percent=not number, room=_HEIGHT, stacked=True)
    entries = [Entry("tenths of the cases" if len(line.x) == 10 else "parts of the cases", "line")]
    drawn, top = legend([*entries, *([Entry("ideal", "ideal")] if number else [])])
    where = panel(x, y, top + HEAD, _HEIGHT)
    drawn += where.frame()
    if number:
        drawn.append(where.diagonal())
    drawn += curves(where, [line], dots=True)
    return svg("Error by uncertainty", where.bottom + FOOT, drawn, standalone=standalone)


def convergence(found: Convergence, *, standalone: bool = False) -> str:
    """What more samples bring: the standard error, and below it the score.

    Args:
        found: what to show; what has no number is left out.
        standalone: whether the drawing brings its colours and background with it.
    """
    spread = _line("standard error", found.samples, found.standard_error)
    score = _line("negative log-likelihood", found.samples, found.score)
    lower, upper = _around(found)
    ys = (
        linear(spread.y, "Monte Carlo standard error", room=_SMALL, stacked=True),
        linear(
            _at_least((*score.y, *lower, *upper), _NATS),
            "negative log-likelihood, in nats",
            zero=False,
            room=_SMALL,
            stacked=True,
        ),
    )
    x = counts(found.samples or (1,), "samples", room())
    top = panel(x, ys[0], HEAD, _SMALL, ys)
    low = panel(x, ys[1], top.bottom + 10.0 + HEAD, _SMALL, ys)
    drawn = [*top.frame(named=False), *curves(top, [spread], dots=True), *low.frame()]
    if lower:
        drawn.append(ribbon(low, score.x, lower, upper))
    drawn += curves(low, [score], dots=True)
    return svg("Convergence", low.bottom + FOOT, drawn, standalone=standalone)


def _around(found: Convergence) -> tuple[list[float], list[float]]:
    """Ends of the band around the scores; nothing where one is not known."""
    pairs = list(zip(found.score, found.score_error, strict=False))
    known = [(y, half) for y, half in pairs if y is not None and half is not None]
    if len(known) < len(found.samples):
        return [], []
    return [y - half for y, half in known], [y + half for y, half in known]


def _at_least(values: Sequence[float], wide: float) -> list[float]:
    """The values, and ends that are so far apart around them: less than that is no trend."""
    if not values:
        return []
    low, high = min(values), max(values)
    more = max(0.0, wide - (high - low)) / 2.0
    return [*values, low - more, high + more]


def _line(name: str, samples: Sequence[int], values: Sequence[Number]) -> Line:
    pairs = [(x, y) for x, y in zip(samples, values, strict=True) if y is not None]
    return Line(name=name, x=tuple(float(x) for x, _ in pairs), y=tuple(y for _, y in pairs))
