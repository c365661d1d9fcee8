"""The comparison as a picture: likelihood and detection, technique by technique."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcdrop.compare.comparison import Comparison
from mcdrop.compare.outcome import Outcome
from mcdrop.errors import McdropError

_BETTER, _WORSE, _PLAIN, _TOLD = "#2a7f62", "#b5452c", "#8a8f98", "#2f5d9b"
_LINEAR = 0.1  # nats to either side of 0 that a logarithmic axis leaves as they are
_TICKS = (-100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0)


def require_matplotlib() -> None:
    """Say that there can be no picture, before minutes are spent on what it would show.

    Raises:
        McdropError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise McdropError(
            "the picture needs matplotlib: pip install 'mcdrop[eval]', or leave it out"
        )


def draw(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw comparisons side by side, as PNG or SVG by the name.

    Args:
        comparisons: of one data set each.
        path: of the picture.

    Raises:
        McdropError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(_compared(comparison)) for comparison in comparisons)
    figure = Figure((11.0, 1.7 + 0.27 * rows), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, 2 * len(comparisons), squeeze=False, sharey=len(comparisons) == 1)[0]
    for place, comparison in enumerate(comparisons):
        _likelihoods(grid[2 * place], comparison, names=place == 0)
        _detection(grid[2 * place + 1], comparison)
    _legend(figure)
    figure.savefig(path)


def _compared(comparison: Comparison) -> list[Outcome]:
    return [outcome for outcome in comparison.outcomes if outcome.technique != "none"]


def _likelihoods(axes: Any, comparison: Comparison, *, names: bool) -> None:
    outcomes = _compared(comparison)
    for place, outcome in enumerate(outcomes):
        colour = _WORSE if outcome.worse else _BETTER if outcome.better else _PLAIN
        axes.plot(
            outcome.off_against_none, place, "o", color=colour, markersize=6, fillstyle="none"
        )
        axes.errorbar(
            outcome.against_none,
            place,
            xerr=2 * outcome.against_none_error,
            fmt="o",
            color=colour,
            markersize=4,
            linewidth=1.3,
        )
    axes.axvline(0.0, color="#444", linewidth=0.8)
    label = "nats a row"
    far = max((abs(outcome.against_none) for outcome in outcomes), default=0.0)
    if far > 1.0:  # a net that alone says nonsense is far from all
        axes.set_xscale("symlog", linthresh=_LINEAR)
        low, high = axes.get_xlim()
        ticks = [tick for tick in _TICKS if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        label = f"nats a row, logarithmic beyond ±{_LINEAR:g}"
    axes.set_xlabel(label, fontsize=8)
    axes.set_title(f"{comparison.data}: NLL less that\nof the net alone (± 2 s.e.)", fontsize=9)
    _finish(axes, outcomes, names=names)


def _detection(axes: Any, comparison: Comparison) -> None:
    outcomes = _compared(comparison)
    alone = {o.net: o.auroc for o in comparison.outcomes if o.technique == "none"}
    for place, outcome in enumerate(outcomes):
        axes.plot(
            [alone[outcome.net], outcome.auroc], [place, place], color="#c8ccd2", linewidth=1.0
        )
        axes.plot(alone[outcome.net], place, "|", color="#444", markersize=8)
        axes.plot(outcome.auroc_off, place, "o", color=_TOLD, markersize=6, fillstyle="none")
        axes.errorbar(
            outcome.auroc,
            place,
            xerr=2 * outcome.auroc_error,
            fmt="o",
            color=_TOLD,
            markersize=4,
            linewidth=1.3,
        )
    axes.axvline(0.5, color="#444", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlabel("AUROC (dashed: chance)", fontsize=8)
    axes.set_title(f"{comparison.data}: rows from outside\ntold from others (± 2 s.e.)", fontsize=9)
    _finish(axes, outcomes, names=False)


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    def mark(marker: str, label: str, *, full: bool = True, color: str = "#444") -> Line2D:
        face = color if full else "none"
        return Line2D([], [], marker=marker, ls="", label=label, mfc=face, color=color)

    marks = [
        mark("o", "mean of 64 samples"),
        mark("o", "the same net, noise off", full=False),
        mark("|", "net alone"),
        mark("s", "higher likelihood", color=_BETTER),
        mark("s", "lower", color=_WORSE),
        mark("s", "within 2 s.e.", color=_PLAIN),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def _finish(axes: Any, outcomes: Sequence[Outcome], *, names: bool) -> None:
    axes.set_yticks(range(len(outcomes)), [outcome.technique for outcome in outcomes])
    axes.tick_params(labelsize=8, labelleft=names)
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
