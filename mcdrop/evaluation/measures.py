"""A figure of a report: what it is called, what it means, and how it comes from sums or columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from mcdrop.evaluation.document import Better, Figure, Topic
from mcdrop.evaluation.intervals import Bounds, interval
from mcdrop.evaluation.resampled import Resampled
from mcdrop.evaluation.strata import ranked_deviation
from mcdrop.evaluation.weighted import OfWeights

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

    def figure(self, value: float, bounds: Bounds) -> Figure:
        """The figure with its interval."""
        low, high = bounds
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
    """A figure from sums, `[...]` of sums `[..., k]`: all replicates at once.

    Attributes:
        fixed: whether it may well be the same for every case.
    """

    measure: Measure
    of: Callable[[Totals], Tensor]
    fixed: bool = False

    def all(self, sums: Resampled) -> list[tuple[float, Bounds]]:
        """The figure and its interval in each slice, or of all cases."""
        low, high = self.measure.low, self.measure.high
        pairs = zip(_list(self.of(sums.totals)), _list(sums.deviation(self.of)), strict=True)
        return [(v, interval(v, spread, low, high, fixed=self.fixed)) for v, spread in pairs]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of hits, by the names of the sums."""

    measure: Measure
    hits: str
    cases: str = "cases"

    def all(self, sums: Resampled) -> list[tuple[float, Bounds]]:
        """The figure and its interval in each slice, or of all cases."""
        return sums.shares(self.hits, self.cases)


@dataclass(frozen=True, slots=True)
class Promised:
    """The mean of what was promised less the share of hits, case by case.

    Its spread is never less than it would be if promises were kept: of cases without a miss the
    spread that is seen is nothing, whatever chance could have done.

    Attributes:
        promised: name of the sums of promised shares.
        hits: of hits.
        doubt: of the variance of a hit where the promise is kept, p (1 - p).
    """

    measure: Measure
    promised: str
    hits: str
    doubt: str

    def all(self, sums: Resampled) -> list[tuple[float, Bounds]]:
        """The figure and its interval in each slice, or of all cases."""
        values = _list(self._gap(sums.totals))
        spread = _list(sums.deviation(self._gap))
        doubt = _list(sums.totals[self.doubt] / sums.totals["cases"])
        counts = sums.effective(self.hits, "cases")
        low, high = self.measure.low, self.measure.high
        return [
            (value, interval(value, math.sqrt(max(seen**2, kept / count)), low, high))
            if count
            else (value, (None, None))
            for value, seen, kept, count in zip(values, spread, doubt, counts, strict=True)
        ]

    def _gap(self, sums: Totals) -> Tensor:
        return (sums[self.promised] - sums[self.hits]) / sums["cases"]


OfSums = Summed | Share | Promised


@dataclass(frozen=True, slots=True)
class Ranked:
    """A figure from flat columns, which are put in order.

    Attributes:
        of: of flat columns, all cases.
        weighted: the same of weighted cases, see `mcdrop.evaluation.weighted`.
        columns: their names.
        side: name of the column that says which of two sides a case is of.
        fixed: whether it was chosen how many rows each side has.
        both: whether there is a figure only with cases of both sides.
    """

    measure: Measure
    of: Callable[..., Tensor]
    weighted: Callable[..., OfWeights]
    columns: tuple[str, ...]
    side: str | None = None
    fixed: bool = False
    both: bool = False


def summed_figures(sums: Resampled, measures: Iterable[OfSums]) -> list[Figure]:
    """Figures with intervals."""
    return [each.measure.figure(*each.all(sums)[0]) for each in measures]


def ranked_figures(columns: Mapping[str, Tensor], measures: Iterable[Ranked]) -> list[Figure]:
    """Figures with intervals.

    Args:
        columns: by name, `[rows, cases of a row]` each.
        measures: what to make of them.
    """
    figures = []
    for each in measures:
        taken = tuple(columns[name] for name in each.columns)
        value, deviation = float(each.of(*(column.flatten() for column in taken))), math.nan
        if math.isfinite(value):
            side = None if each.side is None else columns[each.side]
            deviation = ranked_deviation(
                each.weighted, taken, side, fixed=each.fixed, both=each.both
            )
        bounds = interval(value, deviation, each.measure.low, each.measure.high)
        figures.append(each.measure.figure(value, bounds))
    return figures


def _list(values: Tensor) -> list[float]:
    found: list[float] = values.reshape(-1).tolist()
    return found
