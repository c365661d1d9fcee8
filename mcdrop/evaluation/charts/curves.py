"""Charts of curves: risk over coverage, error by uncertainty, convergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mcdrop.evaluation.charts.drawing import Entry, legend, panel, room, segment, svg
from mcdrop.evaluation.charts.marks import FOOT, HEAD, curves, named, words
from mcdrop.evaluation.charts.scale import counts, linear, shares
from mcdrop.evaluation.document import Convergence, Line, Number

Risk = Literal["share", "number"]  # of errors, or the root mean squared error

_HEIGHT = 190.0
_SMALL = 90.0
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
    top, drawn = 0.0, []
    spread = _line("standard error", found.samples, found.standard_error)
    score = _line("negative log-likelihood", found.samples, found.score)
    ys = [
        linear(line.y, title, zero=zero, room=_SMALL, stacked=True)
        for line, title, zero in (
            (spread, "Monte Carlo standard error", True),
            (score, "negative log-likelihood, in nats", False),
        )
    ]
    x = counts(found.samples or (1,), "samples", room())
    for place, (line, y) in enumerate(zip((spread, score), ys, strict=True)):
        where = panel(x, y, top + HEAD, _SMALL, ys)
        drawn += where.frame(named=place == 1)
        drawn += curves(where, [line], dots=True)
        top = where.bottom + 10.0
    return svg("Convergence", where.bottom + FOOT, drawn, standalone=standalone)


def _line(name: str, samples: Sequence[int], values: Sequence[Number]) -> Line:
    pairs = [(x, y) for x, y in zip(samples, values, strict=True) if y is not None]
    return Line(name=name, x=tuple(float(x) for x, _ in pairs), y=tuple(y for _, y in pairs))
