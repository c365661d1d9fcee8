"""A figure of a report: what it is called, what it means, and how it comes from sums or columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mcdrop.evaluation.document import Better, Figure, Topic
from mcdrop.evaluation.resampling import Sums, interval, ranked_deviation

Totals = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is said of a figure beside its value; see `Figure`.

    Attributes:
        low: it cannot be less.
        high: it cannot be more.
    """

    name: str
    title: str
    topic: Topic
    better: Better | None
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    nominal: float | None = None

    def figure(self, value: float, deviation: float) -> Figure:
        """The figure with its interval."""
        low, high = interval(value, deviation, self.low, self.high)
        return Figure(
            name=self.name,
            title=self.title,
            topic=self.topic,
            meaning=self.meaning,
            better=self.better,
            value=value if math.isfinite(value) else None,
            low=low,
            high=high,
            nominal=self.nominal,
        )


@dataclass(frozen=True, slots=True)
class Summed:
    """A figure from sums, `[...]` of sums `[..., k]`: all replicates at once."""

    measure: Measure
    of: Callable[[Totals], Tensor]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A figure from flat columns, which are put in order; by the names of the columns."""

    measure: Measure
    of: Callable[..., Tensor]
    columns: tuple[str, ...]


def summed_figures(sums: Sums, measures: Iterable[Summed]) -> list[Figure]:
    """Figures with intervals."""
    totals, replicates = sums.totals(), sums.replicates()
    figures = []
    for each in measures:
        again = each.of(replicates)
        known = again[again.isfinite()]
        # where a tenth of the replicates have no figure, its spread is not known
        spread = float(known.std()) if len(known) > 0.9 * len(again) else math.nan
        figures.append(each.measure.figure(float(each.of(totals)), spread))
    return figures


def ranked_figures(columns: Mapping[str, Tensor], measures: Iterable[Ranked]) -> list[Figure]:
    """Figures with intervals.

    Args:
        columns: by name, `[rows, cases of a row]` each.
        measures: what to make of them.
    """
    figures = []
    for each in measures:
        taken = tuple(columns[name] for name in each.columns)
        value = float(each.of(*(column.flatten() for column in taken)))
        deviation = ranked_deviation(each.of, taken) if math.isfinite(value) else math.nan
        figures.append(each.measure.figure(value, deviation))
    return figures
