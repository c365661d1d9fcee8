"""The picture: latency of both servers against the rate at which requests come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import tables
from benchmarks.plot import BAR, FAINT, INK, PAPER, SLOWER
from benchmarks.record import Record

_SIDES = {"ours": ("mcdrop", BAR), "theirs": ("LitServe", SLOWER)}


def draw(records: Sequence[Record]) -> Figure:
    """For each model p50 to p99 of both servers, as bands on logarithmic scales."""
    rows = tables.of_kind(records, "serving_rates")
    figure = Figure(figsize=(4.9 * len(rows), 4.2))
    FigureCanvasSVG(figure)
    figure.set_facecolor(PAPER)
    for place, row in enumerate(rows, start=1):
        axes = figure.add_subplot(1, len(rows), place)
        for side, (label, colour) in _SIDES.items():
            _band(axes, row["rates"][side], label, colour)
        _frame(axes, row)
    figure.subplots_adjust(left=0.62 / figure.get_figwidth(), right=0.98, top=0.82, bottom=0.13)
    figure.text(0.02, 0.93, "Latency as requests come faster", size=14, weight="bold", color=INK)
    return figure


def save(records: Sequence[Record], path: Path) -> None:
    """Draw into a file; the same records give the same bytes."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "mcdrop"}):
        draw(records).savefig(path, metadata={"Date": None})


def _band(axes: Axes, rows: Sequence[Record], label: str, colour: str) -> None:
    answered = [row for row in rows if row["p99_ms"] is not None]
    rates = [row["rate"] for row in answered]
    low, high = ([row[f"p{rank}_ms"] for row in answered] for rank in (50, 99))
    axes.fill_between(rates, low, high, color=colour, alpha=0.15, lw=0, zorder=2)
    axes.plot(rates, low, color=colour, lw=1.2, ls="--", zorder=3, label=f"{label}, p50")
    axes.plot(rates, high, color=colour, lw=2.0, zorder=3, label=f"{label}, p99")
    refusing = [row for row in answered if set(row["statuses"]) != {"200"}]
    axes.plot(
        [row["rate"] for row in refusing],
        [row["p99_ms"] for row in refusing],
        marker="x",
        color=colour,
        ls="none",
        zorder=4,
        label=f"{label} refuses or fails some" if refusing else None,
    )


def _frame(axes: Axes, row: Record) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, unit in ((axes.xaxis, "/s"), (axes.yaxis, " ms")):
        axis.set_major_formatter(FuncFormatter(lambda tick, _, unit=unit: f"{tick:g}{unit}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{row['title']}, {row['samples']} samples", size=10, color=INK, loc="left")
    axes.tick_params(colors=FAINT, length=0, labelsize=9, which="both")
    axes.grid(color="#e6e9ef", lw=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8, labelcolor=FAINT, loc="upper left")
    for side in axes.spines.values():
        side.set_visible(False)
