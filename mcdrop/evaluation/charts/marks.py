"""What several charts draw: lines by kind, step outlines, bands, and their legends."""

from __future__ import annotations

from collections.abc import Sequence

from mcdrop.evaluation.charts.drawing import KINDS, Entry, Panel, Swatch, dot, path
from mcdrop.evaluation.document import Line

HEAD = 27.0  # above a panel: the title of its second axis
FOOT = 40.0  # below a panel: labels and title of its first axis
_FEW = 40  # points up to which each is marked


def kind(place: int) -> int:
    """Which of the kinds of lines the one at a place is, from 1."""
    return place % KINDS + 1


def named(lines: Sequence[Line], swatch: Swatch = "line") -> list[Entry]:
    """A legend of as many lines as there are kinds; the rest, drawn thin, share an entry."""
    entries = [Entry(words(line.name), swatch, kind(n)) for n, line in enumerate(lines[:KINDS])]
    rest = len(lines) - KINDS
    return [*entries, Entry(f"{rest:,} more", "thin")] if rest > 0 else entries


def words(name: str) -> str:
    """A name for people.

    Example:
        >>> words("mutual_information")
        'mutual information'
    """
    return {"std": "predicted deviation"}.get(name, name.replace("_", " "))


def curves(panel: Panel, lines: Sequence[Line], *, dots: bool = False) -> list[str]:
    """Lines, the first on top.

    Args:
        panel: where.
        lines: of which the ones without a kind of their own are thin.
        dots: whether points are marked, if they are few.
    """
    drawn: list[str] = []
    for place in reversed(range(len(lines))):
        line, n = lines[place], kind(place)
        if not line.x:
            continue
        if place >= KINDS:
            drawn.append(panel.line(line.x, line.y, "thin"))
            continue
        drawn.append(panel.line(line.x, line.y, f"line s{n} d{n}"))
        if dots and 1 < len(line.x) <= _FEW:
            points = zip(line.x, line.y, strict=True)
            drawn += [dot(panel.px(x), panel.py(y), f"p{n}") for x, y in points]
    return drawn


def steps(panel: Panel, edges: Sequence[float], parts: Sequence[float], n: int) -> str:
    """Bars of a histogram as one outline, filled down to zero."""
    base = panel.py(0.0)
    first, last = (panel.px(edges[0]), base), (panel.px(edges[-1]), base)
    points = [first, *corners(panel, edges, parts), last]
    return path(points, f"bar f{n} s{n} d{n}", closed=True)


def corners(
    panel: Panel, edges: Sequence[float], parts: Sequence[float]
) -> list[tuple[float, float]]:
    """Ends of the tops of bars, from the left."""
    points = []
    for place, part in enumerate(parts):
        points += [
            (panel.px(edges[place]), panel.py(part)),
            (panel.px(edges[place + 1]), panel.py(part)),
        ]
    return points


def band(
    panel: Panel, edges: Sequence[float], lower: Sequence[float], upper: Sequence[float]
) -> str:
    """The room between two step lines."""
    around = [*corners(panel, edges, upper), *reversed(corners(panel, edges, lower))]
    return path(around, "band", closed=True)


def ribbon(
    panel: Panel, xs: Sequence[float], lower: Sequence[float], upper: Sequence[float]
) -> str:
    """The room between two lines."""
    there = [(panel.px(x), panel.py(y)) for x, y in zip(xs, upper, strict=True)]
    back = [(panel.px(x), panel.py(y)) for x, y in zip(xs, lower, strict=True)]
    return path([*there, *reversed(back)], "band", closed=True)
