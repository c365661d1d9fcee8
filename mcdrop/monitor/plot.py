"""The picture of a training; needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from mcdrop.errors import InputError
from mcdrop.monitor.history import WATCHED, Epoch, History

_INK, _FAINT, _GRID, _PAPER = "#1b2333", "#566072", "#e3e7ee", "#ffffff"
_COLOURS = ("#1668b0", "#c24e00", "#007d63", "#96478f", "#866800", "#4d5867")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 2, 2)), (0, (4, 1.5)), (0, (1, 2)))
_PREFIXES = ("train", "training", "validation", "valid", "val")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.hashsalt": "mcdrop",
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
}
_WIDTH = 4.6  # of a panel, inches
Series = list[tuple[int, float]]


def save(history: History, path: Path) -> Path:
    """Draw into a file; the same history gives the same picture.

    Raises:
        InputError: there is nothing to draw, or no such kind of picture.
    """
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise InputError(
            f"the picture must be a .png, .svg or .pdf; got {path.name!r}, with the ending "
            f"{path.suffix!r}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        dated = {"Date": None} if path.suffix.lower() == ".svg" else None
        draw(history).savefig(path, dpi=160, metadata=dated)
    return path


def draw(history: History) -> Figure:
    """A panel for every metric, for the calibration and for the rates; epochs along all of them.

    Raises:
        InputError: nothing was logged.
    """
    groups = _groups(history.names())
    epochs = history.epochs
    calibrated = [each for each in epochs if each.calibration]
    rated = any(each.rates for each in epochs)
    panels = len(groups) + bool(calibrated) + rated
    if panels == 0:
        raise InputError("there is nothing to draw: call record(epoch, train_loss=…, …) first")
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    size = (_WIDTH * columns, 3.0 * rows)
    figure = Figure(
        figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1), facecolor=_PAPER
    )
    places = [figure.add_subplot(rows, columns, 1 + n) for n in range(panels)]
    for axes, (stem, names) in zip(places, groups.items(), strict=False):
        _values(axes, stem, names, history)
    if calibrated:
        _calibration(places[len(groups)], calibrated)
    if rated:
        _rates(places[-1], epochs)
    for axes in places:
        _frame(axes, epochs)
    for axes in places[-columns:]:
        axes.set_xlabel("epoch")
    return figure


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of one quantity, of training and of validation, together; losses first."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_split(name)[1], []).append(name)
    return dict(sorted(groups.items(), key=lambda group: group[0] != "loss"))


def _split(name: str) -> tuple[str, str]:
    for prefix in _PREFIXES:
        if name.startswith((f"{prefix}_", f"{prefix}/")):
            return prefix, name[len(prefix) + 1 :]
    return "", name


def _values(axes: Axes, stem: str, names: Sequence[str], history: History) -> None:
    axes.set_title(stem.replace("_", " "), loc="left", weight="bold")
    for place, name in enumerate(names):
        points = [(e.epoch, e.values[name]) for e in history.epochs if name in e.values]
        label = _split(name)[0] or name.replace("_", " ")
        _line(axes, points, place, label if len(names) > 1 else "")
        _wrong(axes, points, place, label)
    best = history.best
    if best is not None and best.name in names and best.name in WATCHED:
        axes.plot(best.epoch, best.value, "o", ms=6, mfc=_PAPER, mec=_INK, label="best", zorder=4)


def _line(axes: Axes, points: Series, place: int, label: str) -> None:
    """A line that breaks where a number is none; points where it would not be seen."""
    style = _DASHES[place % len(_DASHES)]
    axes.plot(
        [epoch for epoch, _ in points],
        [value if math.isfinite(value) else math.nan for _, value in points],
        color=_COLOURS[place % len(_COLOURS)],
        linestyle=style,
        marker="o" if len(points) <= 20 else None,
        markersize=3,
        linewidth=1.6,
        label=label or None,
    )


def _wrong(axes: Axes, points: Series, place: int, label: str) -> None:
    """Crosses on the axis, where a number was NaN or infinite."""
    lost = [epoch for epoch, value in points if not math.isfinite(value)]
    if lost:
        axes.plot(
            lost,
            [0.0] * len(lost),
            "x",
            markersize=6,
            markeredgewidth=1.6,
            color=_COLOURS[place % len(_COLOURS)],
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
            label=f"{label} not finite ({len(lost)}×)".lstrip(),
        )


def _calibration(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """What was promised beside what came true; the gap is the area between them."""
    x = [each.epoch for each in epochs]
    if "coverage" in epochs[-1].calibration:
        names, title = ("level", "coverage"), "calibration of intervals"
    else:
        names, title = ("confidence", "accuracy"), "calibration"
    axes.set_title(title, loc="left", weight="bold")
    lines = [[each.calibration.get(name, math.nan) for each in epochs] for name in names]
    axes.fill_between(x, lines[0], lines[1], color=_FAINT, alpha=0.18, linewidth=0, label="gap")
    for place, (name, values) in enumerate(zip(names, lines, strict=True)):
        _line(axes, list(zip(x, values, strict=True)), place, name)
        _wrong(axes, list(zip(x, values, strict=True)), place, name)
    errors = [(each.epoch, each.calibration["ece"]) for each in epochs if "ece" in each.calibration]
    if errors:
        _line(axes, errors, 2, "ECE")
    axes.set_ylim(0.0, 1.0)


def _rates(axes: Axes, epochs: Sequence[Epoch]) -> None:
    """One line for all layers whose rates are the same throughout."""
    axes.set_title("rates", loc="left", weight="bold")
    names = list(dict.fromkeys(name for each in epochs for name in each.rates))
    alike: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for name in names:
        points = tuple((e.epoch, e.rates[name]) for e in epochs if name in e.rates)
        alike.setdefault(points, []).append(name)
    shown = list(alike.items())
    for place, (points, layers) in enumerate(shown[: len(_COLOURS)]):
        some = ", ".join(layers[:2])
        label = some if len(layers) <= 2 else f"{some} and {len(layers) - 2} more"
        _line(axes, list(points), place, label)
    for points, _ in shown[len(_COLOURS) :]:  # more than can be told apart
        axes.plot(*zip(*points, strict=True), color=_FAINT, linewidth=0.7, alpha=0.6)
    if len(shown) > len(_COLOURS):
        rest = sum(len(layers) for _, layers in shown[len(_COLOURS) :])
        axes.plot([], [], color=_FAINT, linewidth=0.7, label=f"{rest} other layers")
    axes.set_ylim(bottom=0.0)


def _frame(axes: Axes, epochs: Sequence[Epoch]) -> None:
    axes.set_facecolor(_PAPER)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    first, last = epochs[0].epoch, epochs[-1].epoch
    room = max((last - first) * 0.02, 0.2)
    axes.set_xlim(first - room, last + room)
    _legend(axes)


def _legend(axes: Axes) -> None:
    """In rows between title and axes, where it hides no line."""
    labels = [_shortened(label) for label in axes.get_legend_handles_labels()[1]]
    if not labels:
        return
    wide = [0.45 + 0.062 * len(label) for label in labels]  # inches, about
    columns = len(labels) if sum(wide) < _WIDTH - 0.5 else int((_WIDTH - 0.5) / max(wide))
    columns = min(max(columns, 1), len(labels))
    axes.legend(
        labels=labels,
        loc="lower left",
        bbox_to_anchor=(-0.005, 1.02),
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=1.9,
        columnspacing=1.2,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    rows = -(-len(labels) // columns)
    axes.set_title(axes.get_title("left"), loc="left", weight="bold", pad=10.0 + 12.0 * rows)


def _shortened(label: str, most: int = 44) -> str:
    """The end of a path tells more than its beginning."""
    return label if len(label) <= most else f"…{label[1 - most :]}"
