"""The picture: how many times faster mcdrop is than each other side, workload by workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks import tables
from benchmarks.record import Record

PAPER, INK, FAINT, BAR = "#ffffff", "#1b2333", "#7b8494", "#2f6fde"
SLOWER = "#d98a3d"
# What the legend says, marker, colour, and the lane within a workload's bar.
SIDES = {
    "naive": ("naive loop, or rows repeated", "o", "#49546a", 0.19),
    "baal": ("baal", "s", "#0f9d7a", 0.0),
    "torch-uncertainty": ("torch-uncertainty", "D", "#c2427a", -0.19),
}
_TICKS = (0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200)


def draw(records: Sequence[Record]) -> Figure:
    """Bars to the best peer on a logarithmic scale, min to max, and a mark for every side."""
    rows = tables.of_kind(records, "speed")
    figure = Figure(figsize=(9.4, 1.55 + 0.62 * len(rows)))
    FigureCanvasSVG(figure)
    figure.set_facecolor(PAPER)
    top = 1.0 - 0.95 / figure.get_figheight()
    axes = figure.add_axes((0.36, 0.55 / figure.get_figheight(), 0.55, top - 0.09))
    for place, row in enumerate(reversed(rows)):
        _bar(axes, place, row)
    _frame(axes, rows)
    _words(figure, rows)
    return figure


def save(records: Sequence[Record], path: Path) -> None:
    """Draw into a file; the same records give the same bytes."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "mcdrop"}):
        draw(records).savefig(path, metadata={"Date": None})


def _bar(axes: Axes, place: int, row: Record) -> None:
    value = row["faster_than_best"]
    colour = BAR if value >= 1.0 else SLOWER
    # from 1, as far as it is faster or slower: on a logarithmic scale a bar has no other beginning
    left, width = min(value, 1.0), abs(value - 1.0)
    axes.barh(place, width, left=left, height=0.62, color=colour, alpha=0.3, zorder=2)
    low, high = row["faster_than_best_min"], row["faster_than_best_max"]
    axes.plot([value, value], [place - 0.31, place + 0.31], color=colour, lw=2.0, zorder=3)
    axes.plot([low, high], [place, place], color=colour, lw=1.2, zorder=3)
    for name, (_, marker, edge, lane) in SIDES.items():
        side = tables.fastest(row, name)
        if side is not None:
            axes.plot(
                side["ratio"],
                place + lane,
                marker=marker,
                markersize=6.5,
                markerfacecolor=PAPER if side["note"] else edge,
                markeredgecolor=edge if side["note"] else PAPER,
                markeredgewidth=1.3 if side["note"] else 0.8,
                linestyle="none",
                zorder=4,
            )
    axes.text(
        1.02,
        place,
        f"{tables.number(value)} ×",
        transform=axes.get_yaxis_transform(),
        va="center",
        ha="left",
        size=11,
        weight="bold",
        color=colour,
        clip_on=False,
    )


def _frame(axes: Axes, rows: Sequence[Record]) -> None:
    ratios = [
        side["ratio"]
        for row in rows
        for name in SIDES
        if (side := tables.fastest(row, name)) is not None
    ]
    ratios += [row["faster_than_best_max"] for row in rows] + [1.0]
    axes.set_xscale("log")
    axes.set_xlim(min(*ratios, 0.9) / 1.15, max(*ratios, 2.0) * 1.25)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if low < tick < high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}×"))
    axes.tick_params(axis="x", colors=FAINT, length=0, labelsize=9)
    axes.set_yticks(range(len(rows)))
    labels = [f"{row['title']}\n{row['samples']:,} samples" for row in reversed(rows)]
    axes.set_yticklabels(labels, color=INK, size=9, linespacing=1.35)
    axes.tick_params(axis="y", length=0, pad=10)
    axes.grid(axis="x", color="#e6e9ef", lw=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.axvline(1.0, color=INK, lw=1.0, zorder=3)
    for side in axes.spines.values():
        side.set_visible(False)


def _words(figure: Figure, rows: Sequence[Record]) -> None:
    height = figure.get_figheight()
    figure.text(
        0.02,
        1 - 0.32 / height,
        "Monte Carlo dropout, times faster than the best peer",
        size=14,
        weight="bold",
        color=INK,
    )
    first = rows[0]
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=6.5, label=label)
        for label, marker, colour, _ in SIDES.values()
    ]
    missing = any(side["note"] and side["seconds"] for row in rows for side in row["sides"])
    if missing:
        handles.append(
            Line2D(
                [],
                [],
                marker="o",
                markerfacecolor=PAPER,
                markeredgecolor=FAINT,
                linestyle="none",
                markersize=6.5,
                label="hollow: does not sample every site, not taken as best",
            )
        )
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.012, 1 - 0.42 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
        labelcolor=FAINT,
        handletextpad=0.3,
        columnspacing=1.4,
    )
    cores, torch = first["machine"]["cores"], first["versions"]["torch"]
    figure.text(
        0.02,
        0.13 / height,
        f"{cores} cores, torch {torch}; each mark is a side at its fastest, "
        "a line is min to max of the rounds",
        size=8,
        color=FAINT,
    )
