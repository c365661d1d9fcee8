"""An evaluation on a terminal."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcdrop.evaluation import Evaluation
from mcdrop.evaluation.charts.scale import counted
from mcdrop.evaluation.document import Figure

_ARROWS = {"lower": "↓", "higher": "↑", "nominal": "→", None: ""}


def summary(evaluation: Evaluation) -> RenderableType:
    """What was evaluated, every figure with its interval, and what was left out."""
    data, run = evaluation.data, evaluation.run
    calibrated = evaluation.model.calibration or "not calibrated"
    title = Text.assemble(
        (evaluation.model.name, "bold"),
        f"  version {evaluation.model.version}  ({calibrated})",
    )
    rows = counted(data.rows, "row")
    rows += f" of {data.source}, {run.samples} samples, {run.seconds:.1f} s"
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("")
    figures = evaluation.figures
    if evaluation.detection is not None:
        figures += evaluation.detection.figures
    topic = ""
    for figure in sorted(figures, key=lambda each: _TOPICS.index(each.topic)):
        if figure.topic != topic:
            topic = figure.topic
            table.add_row(Text(_TITLES[figure.topic], style="bold cyan"))
        table.add_row(f"  {figure.title}", number(figure.value), _interval(figure), _aim(figure))
    notes = [Text(note, style="yellow") for note in evaluation.notes]
    return Group(title, Text(rows, style="dim"), table, *notes)


_TITLES = {
    "scores": "scores",
    "calibration": "calibration",
    "uncertainty": "uncertainty",
    "sets": "sets and intervals",
    "selective": "selective prediction",
    "detection": "detection of other data",
}
_TOPICS = list(_TITLES)


def number(value: float | None) -> str:
    """Four significant digits; a dash for none.

    Example:
        >>> number(0.123456), number(12345.6), number(None)
        ('0.1235', '12346', '–')
    """
    if value is None:
        return "–"
    if value != 0.0 and abs(value) >= 1e4:
        return f"{value:.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.4g}" if value == 0.0 or abs(value) >= 1e-4 else f"{value:.2e}"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None or math.isnan(figure.low):
        return ""
    return f"{number(figure.low)} … {number(figure.high)}"


def _aim(figure: Figure) -> str:
    if figure.better == "nominal":
        return f"→ {number(figure.nominal)}"
    return _ARROWS[figure.better]
