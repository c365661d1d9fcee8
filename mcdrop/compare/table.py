"""The comparison as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcdrop.compare.comparison import Comparison, Outcome

_HEADS = {
    "digits": ("wrong", "NLL", "NLL − none", "ECE", "AUROC"),  # noqa: RUF001 (a minus)
    "diabetes": ("RMSE", "NLL", "NLL − none", "QCE", "AUROC"),  # noqa: RUF001
}
_TIMES = ("train", "predict")
_WIDE = 110


def markdown(comparison: Comparison) -> str:
    """The table in Markdown; a star marks a likelihood clearly lower than that of the net alone."""
    lines = [_row(heads(comparison)), _row(["---", "---", "---", *["---:"] * 7])]
    lines += [_row(cells(comparison, outcome)) for outcome in comparison.outcomes]
    return "\n".join(lines)


def rich_table(comparison: Comparison, width: int = 120) -> Any:
    """The table that rich prints.

    Args:
        comparison: what was found.
        width: of the terminal, in characters; a narrow one is spared rates and times.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    title = f"{comparison.data}: {comparison.folds} folds, {comparison.epochs} epochs"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    shown = [0, 2, *range(3, 10)] if width >= _WIDE else [0, *range(3, 8)]
    names = heads(comparison)
    for place in shown:
        table.add_column(names[place], justify="right" if place > 2 else "left", no_wrap=True)
    net = ""
    for outcome in comparison.outcomes:
        texts = cells(comparison, outcome)
        if outcome.net != net:
            table.add_section()
            net = outcome.net
        if outcome.technique == "none":
            texts[0] = f"none ({outcome.net} net)"
        style = "red" if outcome.worse else None
        table.add_row(*(texts[place] for place in shown), style=style)
    return table


def heads(comparison: Comparison) -> list[str]:
    """Names of the columns."""
    return ["technique", "net", "rate", *_HEADS[comparison.data], *_TIMES]


def cells(comparison: Comparison, outcome: Outcome) -> list[str]:
    """What stands in a row."""
    classes = comparison.data == "digits"
    against = "" if outcome.technique == "none" else _difference(outcome)
    return [
        outcome.technique,
        outcome.net,
        outcome.rate,
        f"{100 * outcome.error:.1f}%" if classes else f"{outcome.error:.1f}",
        f"{outcome.nll:.3f}",
        against,
        f"{100 * outcome.calibration:.1f}%",
        f"{outcome.auroc:.3f}",
        f"{outcome.train_seconds:.1f} s",
        f"{outcome.predict_ms:.1f} ms",
    ]


def _difference(outcome: Outcome) -> str:
    mark = " *" if outcome.worse else ""
    return f"{outcome.against_none:+.3f} ± {outcome.against_none_error:.3f}{mark}"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
