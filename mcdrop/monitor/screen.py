"""A training on a terminal: a live table, or a line an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mcdrop.monitor.history import Epoch, History

Display = Literal["auto", "table", "lines", "none"]
_ROWS = 12  # of a live table: more would not fit onto a small terminal
_SHOWN = ("gap", "ece", "coverage")  # of the calibration; the rest is in the history and the plot


class Screen:
    """Shows epochs as they come.

    A table stands from `start` to `stop`, on a terminal (`"auto"`) or anywhere (`"table"`);
    otherwise each epoch is a line.
    """

    def __init__(self, display: Display, console: Console | None) -> None:
        self.display = display
        self._console = console
        self._live: Live | None = None

    @property
    def console(self) -> Console:
        """Made when it is needed: a monitor travels to other processes, a console does not."""
        return Console() if self._console is None else self._console

    def start(self) -> None:
        """Put up a table, if there is to be one."""
        console = self.console
        terminal = console.is_terminal and not console.is_dumb_terminal
        wanted = self.display == "table" or (self.display == "auto" and terminal)
        if wanted and self._live is None:
            # refreshed when there is something new: no thread of its own
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()

    def show(self, history: History) -> None:
        """Show the last epoch."""
        if self._live is not None:
            self._live.update(table(history), refresh=True)
        elif self.display != "none":
            self.console.print(line(history.epochs[-1]), soft_wrap=True)

    def stop(self) -> None:
        """Leave the table as it is."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def line(epoch: Epoch) -> Text:
    """An epoch in a line; what is NaN or infinite stands out."""
    parts = Text(f"epoch {epoch.epoch}", style="bold")
    told = [(name, number(value)) for name, value in epoch.values.items()]
    told += [(n, number(epoch.calibration[n])) for n in _SHOWN if n in epoch.calibration]
    if epoch.rates:
        told.append(("rate", _rates(epoch.rates.values())))
    for name, shown in told:
        parts.append(f"  {name} ", style="not bold dim").append_text(shown)
    return parts


def table(history: History) -> RenderableType:
    """The last epochs, the best one, and what went wrong."""
    rows = history.epochs[-_ROWS:]
    names = history.names()
    calibration = [name for name in _SHOWN if any(name in row.calibration for row in rows)]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("epoch", *(name.replace("_", " ") for name in names), *calibration):
        made.add_column(heading, justify="right")
    made.add_column("rate" if any(row.rates for row in rows) else "", justify="right")
    for row in rows:
        best = history.best is not None and history.best.epoch == row.epoch
        made.add_row(
            str(row.epoch),
            *(_cell(row.values, name) for name in names),
            *(_cell(row.calibration, name) for name in calibration),
            _rates(row.rates.values()),
            style="green" if best else "",
        )
    return Group(made, *_notes(history))


def _notes(history: History) -> Iterable[Text]:
    if history.best is not None:
        best = history.best
        what = best.name.replace("_", " ")
        yield Text(f"best {what} {best.value:.4g}, epoch {best.epoch}", style="green")
    for name, epoch in history.not_finite.items():
        what = name.replace("_", " ")
        yield Text(f"{what} was first NaN or infinite in epoch {epoch}", style="bold red")


def _cell(values: Mapping[str, float], name: str) -> Text:
    return number(values[name]) if name in values else Text("–", style="dim")


def number(value: float) -> Text:
    """Four significant digits; red where it is none.

    Example:
        >>> number(0.123456).plain, number(float("nan")).plain, number(float("-inf")).plain
        ('0.1235', 'NaN', '-∞')
    """
    if math.isnan(value):
        return Text("NaN", style="bold red")
    if math.isinf(value):
        return Text("∞" if value > 0.0 else "-∞", style="bold red")
    return Text(f"{value:.4g}", style="not bold")


def _rates(rates: Iterable[float]) -> Text:
    """All of them in a number, or the least and the largest."""
    shown = sorted(rates)
    if not shown:
        return Text("")
    low, high = f"{shown[0]:.3g}", f"{shown[-1]:.3g}"
    return Text(low if low == high else f"{low} … {high}", style="not bold")
