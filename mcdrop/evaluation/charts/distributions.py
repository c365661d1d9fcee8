"""Charts of how values are spread: histograms of groups, and the PIT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from mcdrop.evaluation.charts.drawing import Entry, legend, panel, path, room, svg
from mcdrop.evaluation.charts.marks import FOOT, HEAD, band, corners, kind, steps, words
from mcdrop.evaluation.charts.scale import linear
from mcdrop.evaluation.document import Histogram

_HEIGHT = 170.0


def histogram(
    found: Histogram,
    x_label: str,
    *,
    flat: bool = False,
    title: str = "Histogram",
    standalone: bool = False,
) -> str:
    """Histograms of one or more groups of cases over each other.

    Args:
        found: what to show.
        x_label: what the edges are.
        flat: whether all bars are meant to be equally high, as those of a PIT are. With one group,
            a band shows where 95% of them would be by chance if cases were independent.
        title: of the drawing.
        standalone: whether the drawing brings its colours and background with it.
    """
    edges = found.edges
    even = _even(edges) if flat else []
    chance = _chance(even, next(iter(found.counts.values()))) if flat and _one(found) else []
    drawn, top = legend(_entries(found, flat=flat, chance=bool(chance)))
    heights = [part for parts in found.shares.values() for part in parts]
    heights += [part + more for part, more in zip(even, chance or [0.0] * len(even), strict=True)]
    label = "share of cases" if _one(found) else "share of its cases"
    y = linear(heights, label, percent=True, room=_HEIGHT, stacked=True)
    x = linear(edges, x_label, zero=False, room=room(), tight=True)
    where = panel(x, y, top + HEAD, _HEIGHT)
    drawn += where.frame()
    for place, (name, parts) in enumerate(found.shares.items()):
        if found.counts.get(name, 1):
            drawn.append(steps(where, edges, parts, kind(place)))
    if chance:
        pairs = list(zip(even, chance, strict=True))
        lower = [max(part - more, 0.0) for part, more in pairs]
        drawn.append(band(where, edges, lower, [part + more for part, more in pairs]))
    if even:
        drawn.append(path(corners(where, edges, even), "ideal"))
    return svg(title, where.bottom + FOOT, drawn, standalone=standalone)


def _one(found: Histogram) -> bool:
    return len(found.shares) == 1


def _even(edges: Sequence[float]) -> list[float]:
    """Shares of bars between these edges if values are spread evenly."""
    whole = edges[-1] - edges[0]
    return [(high - low) / whole for low, high in pairwise(edges)]


def _chance(even: Sequence[float], cases: int) -> list[float]:
    """Half the width of the band of each bar: 1.96 standard errors of its share."""
    return [1.96 * math.sqrt(part * (1.0 - part) / max(cases, 1)) for part in even]


def _entries(found: Histogram, *, flat: bool, chance: bool) -> list[Entry]:
    entries = [
        Entry(f"{words(name)} ({_cases(name, found.counts)})", "area", kind(place))
        for place, name in enumerate(found.shares)
    ]
    if chance:
        entries.append(Entry("within chance", "band"))
    return [*entries, Entry("ideal", "ideal")] if flat else entries


def _cases(name: str, counts: Mapping[str, int]) -> str:
    return f"{counts.get(name, 0):,}"
