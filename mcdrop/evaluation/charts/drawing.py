"""What charts are made of: panels with axes, legends, and the SVG around them.

Colours are CSS custom properties, so that a page decides them; lines differ by their dashes too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from mcdrop.evaluation.charts.scale import SIZE, Axis, shorten, width

WIDTH = 360.0
KINDS = 6  # of lines, told apart by colour and dashes
_EDGE = 6.0
_ROW = 16.0
_SWATCH = 18.0

# Blue, vermilion, green, purple, ochre and slate: apart for all common kinds of colour blindness.
LIGHT = (
    "--chart-paper:#fff;--chart-ink:#1b2333;--chart-faint:#566072;--chart-grid:#e3e7ee;"
    "--chart-1:#1668b0;--chart-2:#c24e00;--chart-3:#007d63;--chart-4:#96478f;--chart-5:#866800;"
    "--chart-6:#4d5867;"
)
DARK = (
    "--chart-paper:#12161f;--chart-ink:#e8ecf4;--chart-faint:#a3adbf;--chart-grid:#2b3342;"
    "--chart-1:#6db3f2;--chart-2:#ff9b5e;--chart-3:#4ccfab;--chart-4:#e39dd8;--chart-5:#dcbf52;"
    "--chart-6:#adb8c7;"
)
_DASHES = ("none", "6 3", "2 2.5", "9 3 2 3", "4 2", "1 3")
STYLE = (
    ".chart{display:block;width:100%;height:auto;font-family:system-ui,sans-serif}"
    f".chart text{{font-size:{SIZE:g}px;fill:var(--chart-faint);"
    "font-variant-numeric:tabular-nums}"
    ".chart text.mark,.chart text.head{fill:var(--chart-ink)}"
    ".chart .grid{stroke:var(--chart-grid);stroke-width:1}"
    ".chart .base{stroke:var(--chart-faint);stroke-width:1}"
    ".chart .ideal{stroke:var(--chart-ink);stroke-width:1.2;stroke-dasharray:3 3;fill:none}"
    ".chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:butt}"
    ".chart .thin{stroke:var(--chart-faint);stroke-width:.7;fill:none;stroke-opacity:.6}"
    ".chart .band{fill:var(--chart-faint);fill-opacity:.16}"
    ".chart .dot{stroke:var(--chart-paper);stroke-width:1}"
    ".chart .bar{stroke-width:1.4}.chart .gap{stroke-width:.8;stroke-opacity:.7}"
    ".chart .paper{fill:var(--chart-paper)}"
) + "".join(
    f".chart .s{n}{{stroke:var(--chart-{n})}}.chart .d{n}{{stroke-dasharray:{dash}}}"
    f".chart .f{n}{{fill:var(--chart-{n});fill-opacity:.24}}.chart .p{n}{{fill:var(--chart-{n})}}"
    for n, dash in enumerate(_DASHES, 1)
)

Swatch = Literal["line", "area", "gap", "dot", "ideal", "band", "thin"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend: what it stands for, and which of the `KINDS` (from 1) it is."""

    text: str
    swatch: Swatch
    kind: int = 1


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle with two axes."""

    x: Axis
    y: Axis
    left: float
    top: float
    right: float
    bottom: float

    def px(self, value: float) -> float:
        """Where a number of the first axis is."""
        return self.left + (self.right - self.left) * self.x.share(value)

    def py(self, value: float) -> float:
        """Where a number of the second axis is."""
        return self.bottom - (self.bottom - self.top) * self.y.share(value)

    def frame(self, *, named: bool = True) -> list[str]:
        """Grid, axes and labels; names of the first axis only if it is named."""
        middle, parts = SIZE * 0.36, []
        for tick, label in zip(self.y.ticks, self.y.labels, strict=True):
            place = self.py(tick)
            parts.append(segment(self.left, place, self.right, place, "grid"))
            parts.append(text(self.left - 5.0, place + middle, label, anchor="end"))
        parts.append(segment(self.left, self.bottom, self.right, self.bottom, "base"))
        parts.append(text(_EDGE, self.top - 11.0, self.y.title))
        for tick, label in zip(self.x.ticks, self.x.labels, strict=True):
            place = self.px(tick)
            parts.append(segment(place, self.bottom, place, self.bottom + 3.0, "base"))
            if named:
                parts.append(text(place, self.bottom + 16.0, label, anchor="middle"))
        if named:
            centre = (self.left + self.right) / 2.0
            parts.append(text(centre, self.bottom + 33.0, self.x.title, anchor="middle"))
        return parts

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> str:
        """A line through points; a dot for a single one."""
        points = [(self.px(x), self.py(y)) for x, y in zip(xs, ys, strict=True)]
        if len(points) == 1:
            return dot(*points[0], kind)
        return path(points, kind)

    def diagonal(self) -> str:
        """Where both numbers are the same, as far as the axes reach."""
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        return segment(self.px(low), self.py(low), self.px(high), self.py(high), "ideal")


def panel(x: Axis, y: Axis, top: float, height: float, others: Iterable[Axis] = ()) -> Panel:
    """A panel as wide as the chart, with room for the labels of this and the other axes."""
    labels = [label for axis in (y, *others) for label in axis.labels]
    left = _EDGE + max(map(width, labels), default=0.0) + 5.0
    last = width(x.labels[-1]) / 2.0 if x.labels else 0.0
    return Panel(x, y, left, top, WIDTH - _EDGE - max(last, 4.0), top + height)


def room() -> float:
    """Length of the first axis, about."""
    return WIDTH - 70.0


def legend(entries: Sequence[Entry]) -> tuple[list[str], float]:
    """Its parts, and where it ends; rows are filled from the left."""
    parts: list[str] = []
    left, row = _EDGE, 0
    most = WIDTH - 2.0 * _EDGE - _SWATCH - 5.0
    for entry in entries:
        short = shorten(entry.text, most)
        wide = _SWATCH + 5.0 + width(short)
        if left > _EDGE and left + wide > WIDTH - _EDGE:
            left, row = _EDGE, row + 1
        middle = 10.0 + row * _ROW
        parts += _swatch(entry, left, middle)
        whole = entry.text if short != entry.text else None
        at = left + _SWATCH + 5.0
        parts.append(text(at, middle + SIZE * 0.36, short, cls="mark", hover=whole))
        left += wide + 12.0
    return parts, (row + 1) * _ROW + 4.0 if entries else 0.0


def svg(title: str, height: float, parts: Iterable[str], *, standalone: bool) -> str:
    """The whole drawing.

    Args:
        title: what it shows, for who does not see it.
        height: of the view box, which is `WIDTH` wide.
        parts: elements.
        standalone: whether it brings its colours and background with it.
    """
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{_(title)}"'
    )
    box = f'viewBox="0 0 {WIDTH:g} {num(height)}"'
    own = ""
    if standalone:
        head += f' width="{2 * WIDTH:g}" height="{num(2 * height)}"'
        own = (
            f"<style>:root{{color-scheme:light dark;{LIGHT}}}"
            f"@media screen and (prefers-color-scheme: dark){{:root{{{DARK}}}}}{STYLE}</style>"
            '<rect class="paper" width="100%" height="100%"/>'
        )
    return f"{head} {box}><title>{_(title)}</title>{own}{''.join(parts)}</svg>"


def segment(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    """A straight line."""
    return f'<path class="{cls}" d="M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}"/>'


def path(points: Iterable[tuple[float, float]], cls: str, *, closed: bool = False) -> str:
    """A line through points."""
    steps = "L".join(f"{num(x)} {num(y)}" for x, y in points)
    return f'<path class="{cls}" d="M{steps}{"Z" if closed else ""}"/>'


def box(x: float, y: float, wide: float, high: float, cls: str, opacity: float = 1.0) -> str:
    """A rectangle."""
    seen = f' opacity="{opacity:.2f}"' if opacity < 1.0 else ""
    size = f'width="{num(max(wide, 0.0))}" height="{num(max(high, 0.0))}"'
    return f'<rect class="{cls}" x="{num(x)}" y="{num(y)}" {size}{seen}/>'


def dot(x: float, y: float, cls: str) -> str:
    """A point; of a line's class it takes the colour."""
    fill = " ".join(f"p{name[1:]}" for name in cls.split() if name[0] == "s" and name[1:].isdigit())
    return f'<circle class="dot {fill or cls}" cx="{num(x)}" cy="{num(y)}" r="3.2"/>'


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    cls: str = "",
    hover: str | None = None,
) -> str:
    """Words; `hover` is shown when they are pointed at."""
    names = f' class="{cls}"' if cls else ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    note = f"<title>{_(hover)}</title>" if hover else ""
    return f'<text x="{num(x)}" y="{num(y)}"{names}{place}>{note}{_(words)}</text>'


def group(parts: Iterable[str], hover: str) -> str:
    """Elements that say something when they are pointed at."""
    return f"<g><title>{_(hover)}</title>{''.join(parts)}</g>"


def num(value: float) -> str:
    """A coordinate: one decimal is a tenth of a pixel."""
    return f"{round(value, 1) + 0.0:g}"


def _(words: str) -> str:
    """Escaped, without the control characters that XML has no way to write."""
    return escape("".join(c if c.isprintable() else " " for c in words))


def _swatch(entry: Entry, left: float, middle: float) -> list[str]:
    right, n = left + _SWATCH, entry.kind
    if entry.swatch == "line":
        return [segment(left, middle, right, middle, f"line s{n} d{n}")]
    if entry.swatch == "area":
        return [box(left, middle - 5.0, _SWATCH, 10.0, f"bar f{n} s{n} d{n}")]
    if entry.swatch == "gap":
        return [box(left, middle - 5.0, _SWATCH, 10.0, f"gap f{n} s{n}")]
    if entry.swatch == "band":
        return [box(left, middle - 5.0, _SWATCH, 10.0, "band")]
    if entry.swatch == "dot":
        centre = (left + right) / 2.0
        bar = segment(centre, middle - 6.0, centre, middle + 6.0, f"bar s{n}")
        return [bar, dot(centre, middle, f"p{n}")]
    return [segment(left, middle, right, middle, entry.swatch)]
