"""The comparison as a picture: likelihood and detection, technique by technique."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcdrop.compare.comparison import Comparison, Outcome
from mcdrop.errors import McdropError

_BETTER, _WORSE, _PLAIN = "#2a7f62", "#b5452c", "#8a8f98"


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
    figure = Figure((11.0, 1.2 + 0.27 * rows), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, 2 * len(comparisons), squeeze=False, sharey=len(comparisons) == 1)[0]
    for place, comparison in enumerate(comparisons):
        _likelihoods(grid[2 * place], comparison, names=place == 0)
        _detection(grid[2 * place + 1], comparison)
    figure.savefig(path)


def _compared(comparison: Comparison) -> list[Outcome]:
    return [outcome for outcome in comparison.outcomes if outcome.technique != "none"]


def _likelihoods(axes: Any, comparison: Comparison, *, names: bool) -> None:
    outcomes = _compared(comparison)
    for place, outcome in enumerate(outcomes):
        colour = _WORSE if outcome.worse else _BETTER
        if abs(outcome.against_none) <= 2 * outcome.against_none_error:
            colour = _PLAIN
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
    if max((abs(outcome.against_none) for outcome in outcomes), default=0.0) > 1.0:
        axes.set_xscale("symlog", linthresh=0.1)  # a net that alone says nonsense is far from all
        axes.set_xticks([-10.0, -1.0, -0.1, 0.0, 0.1], ["-10", "-1", "-0.1", "0", "0.1"])
    axes.set_title(f"{comparison.data}: NLL less that\nof the net alone (± 2 s.e.)", fontsize=9)
    _finish(axes, outcomes, names=names)


def _detection(axes: Any, comparison: Comparison) -> None:
    outcomes = _compared(comparison)
    alone = {o.net: o.auroc for o in comparison.outcomes if o.technique == "none"}
    for place, outcome in enumerate(outcomes):
        axes.plot(
            [alone[outcome.net], outcome.auroc], [place, place], color="#c8ccd2", linewidth=1.3
        )
        axes.plot(alone[outcome.net], place, "|", color=_PLAIN, markersize=8)
        axes.plot(outcome.auroc, place, "o", color="#2f5d9b", markersize=4)
    axes.set_title(f"{comparison.data}: AUROC of rows from\noutside (bar: net alone)", fontsize=9)
    _finish(axes, outcomes, names=False)


def _finish(axes: Any, outcomes: Sequence[Outcome], *, names: bool) -> None:
    axes.set_yticks(range(len(outcomes)), [outcome.technique for outcome in outcomes])
    axes.tick_params(labelsize=8, labelleft=names)
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
