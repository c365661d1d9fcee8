"""The comparison as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcdrop.compare.comparison import Comparison
from mcdrop.compare.outcome import Outcome

_OF_CLASSES, _OF_NUMBERS = ("wrong", "ECE"), ("RMSE", "QCE")
_LEFT = 3  # columns of text come first
_NARROW = (0, 3, 4, 5, 6, 10)
_MEDIUM = (0, 3, 4, 5, 6, 8, 9, 10, 11)
_MEDIUM_WIDTH, _WIDE_WIDTH = 115, 200


def markdown(comparison: Comparison) -> str:
    """The table in Markdown; a star marks a likelihood clearly lower than that of the net alone."""
    lines = [
        _row(heads(comparison)),
        _row([*["---"] * _LEFT, *["---:"] * (len(heads(comparison)) - _LEFT)]),
    ]
    lines += [_row(cells(comparison, outcome)) for outcome in comparison.outcomes]
    return "\n".join(lines)


def rich_table(comparison: Comparison, width: int = 120) -> Any:
    """The table that rich prints.

    Args:
        comparison: what was found.
        width: of the terminal, in characters; a narrow one is spared some columns.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=head(comparison), title_justify="left", box=SIMPLE, pad_edge=False)
    shown: Sequence[int] = range(len(heads(comparison)))
    if width < _WIDE_WIDTH:
        shown = _NARROW if width < _MEDIUM_WIDTH else _MEDIUM
    names = heads(comparison)
    for place in shown:
        table.add_column(names[place], justify="right" if place >= _LEFT else "left", no_wrap=True)
    net = ""
    for outcome in comparison.outcomes:
        texts = cells(comparison, outcome)
        if outcome.net != net:
            table.add_section()
            net = outcome.net
        if outcome.technique == "none":
            texts[0] = f"none ({outcome.net} net)"
        if width < _WIDE_WIDTH:
            texts[10:12] = [text.partition(" ±")[0] for text in texts[10:12]]
        style = "red" if outcome.worse else None
        table.add_row(*(texts[place] for place in shown), style=style)
    return table


def head(comparison: Comparison) -> str:
    """What was done, in a line."""
    times = "once" if comparison.seeds == 1 else f"{comparison.seeds} times"
    return (
        f"{comparison.data}: {comparison.folds} folds, each trained {times} "
        f"for at most {comparison.epochs} epochs"
    )


def heads(comparison: Comparison) -> list[str]:
    """Names of the columns."""
    error, calibration = _OF_CLASSES if comparison.data == "digits" else _OF_NUMBERS
    likelihoods = ["NLL", "NLL − none", "NLL off", "off − none", "NLL − off"]  # noqa: RUF001 (minus)
    detections = ["AUROC", "AUROC off"]
    times = ["epoch", "train", "predict"]
    return ["technique", "net", "rate", error, *likelihoods, calibration, *detections, *times]


def cells(comparison: Comparison, outcome: Outcome) -> list[str]:
    """What stands in a row; of a net alone there is only one pass."""
    classes = comparison.data == "digits"
    against = [
        _difference(outcome.against_none, outcome.against_none_error, " *" * outcome.worse),
        f"{outcome.nll_off:.3f}",
        _difference(outcome.off_against_none, outcome.off_against_none_error),
        _difference(outcome.against_off, outcome.against_off_error),
    ]
    off = f"{outcome.auroc_off:.3f} ± {outcome.auroc_off_error:.3f}"
    if outcome.technique == "none":
        against, off = [""] * 4, ""
    return [
        outcome.technique,
        outcome.net,
        outcome.rate,
        f"{100 * outcome.error:.1f}%" if classes else f"{outcome.error:.1f}",
        f"{outcome.nll:.3f}",
        *against,
        f"{100 * outcome.calibration:.1f}%",
        f"{outcome.auroc:.3f} ± {outcome.auroc_error:.3f}",
        off,
        f"{outcome.best_epoch:.0f}",
        f"{outcome.epoch_ms:.0f} ms",
        f"{outcome.predict_ms:.1f} ms",
    ]


def _difference(mean: float, error: float, mark: str = "") -> str:
    return f"{mean:+.3f} ± {error:.3f}{mark}"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
