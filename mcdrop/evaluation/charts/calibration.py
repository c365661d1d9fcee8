"""Charts of whether a prediction means what it says: reliability and interval coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mcdrop.evaluation.charts.drawing import (
    Entry,
    Panel,
    box,
    dot,
    group,
    legend,
    panel,
    segment,
    svg,
)
from mcdrop.evaluation.charts.marks import FOOT, HEAD, curves, named
from mcdrop.evaluation.charts.scale import counted, linear, shares
from mcdrop.evaluation.document import Bin, Line

_HEIGHT = 200.0
_CLEAR, _FAINTEST = 100, 0.2  # cases from which a gap is drawn in full; the least of its opacity
_LOW = 54.0  # height of the small panel of counts


def reliability(bins: Sequence[Bin], *, standalone: bool = False) -> str:
    """Reliability diagram: accuracy by confidence, and below it how many cases there are.

    Args:
        bins: those without cases stay empty.
        standalone: whether the drawing brings its colours and background with it.
    """
    accuracy, gap, ideal = (
        Entry("accuracy, with 95% interval", "dot"),
        Entry("gap", "gap", 2),
        Entry("ideal", "ideal"),
    )
    drawn, top = legend((accuracy, gap, ideal))
    total = max(sum(each.count for each in bins), 1)
    x, y = shares("confidence"), shares("accuracy")
    many = linear(
        (each.count / total for each in bins),
        "share of cases",
        percent=True,
        room=_LOW,
        stacked=True,
    )
    upper = panel(x, y, top + HEAD, _HEIGHT, [many])
    lower = panel(x, many, upper.bottom + HEAD + 10.0, _LOW, [y])
    drawn += [*upper.frame(named=False), *lower.frame(), upper.diagonal()]
    drawn += [_bin(upper, lower, each, each.count / total) for each in bins if each.count]
    return svg("Reliability diagram", lower.bottom + FOOT, drawn, standalone=standalone)


def coverage(lines: Sequence[Line], *, standalone: bool = False) -> str:
    """Share of targets inside of intervals, against the share that is asked for.

    Args:
        lines: one for each kind of interval.
        standalone: whether the drawing brings its colours and background with it.
    """
    drawn, top = legend((*named(lines), Entry("ideal", "ideal")))
    where = panel(shares("share asked for"), shares("share found"), top + HEAD, _HEIGHT)
    drawn += [*where.frame(), where.diagonal(), *curves(where, lines, dots=True)]
    return svg("Interval coverage", where.bottom + FOOT, drawn, standalone=standalone)


def _bin(upper: Panel, lower: Panel, each: Bin, share: float) -> str:
    left = upper.px(each.low) + 0.5
    wide = upper.px(each.high) - left - 0.5
    drawn = [box(left, lower.py(share), wide, lower.bottom - lower.py(share), "bar f1 s1")]
    hover = (
        f"confidence {each.low:.1%} to {each.high:.1%}: {counted(each.count, 'case')} ({share:.1%})"
    )
    if each.confidence is None or each.accuracy is None:
        return group(drawn, hover)
    hover += f", mean confidence {each.confidence:.1%}, accuracy {each.accuracy:.1%}"
    x, ideal, found = upper.px(each.confidence), upper.py(each.confidence), upper.py(each.accuracy)
    seen = min(1.0, max(_FAINTEST, math.sqrt(each.count / _CLEAR)))
    drawn.append(box(left, min(ideal, found), wide, abs(ideal - found), "gap f2 s2", seen))
    if each.accuracy_low is not None and each.accuracy_high is not None:
        hover += f" ({each.accuracy_low:.1%} to {each.accuracy_high:.1%})"
        ends = upper.py(each.accuracy_low), upper.py(each.accuracy_high)
        drawn.append(segment(x, ends[0], x, ends[1], "bar s1"))
    drawn.append(dot(x, found, "p1"))
    return group(drawn, hover)
