"""What a load comes to: rows a second, percentiles of latency, counts by status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.record import Record
from benchmarks.serving.load import Outcome

PERCENTILES = (50, 95, 99)


def figures(outcomes: Sequence[Outcome], begin: float, end: float, *, closed: bool) -> Record:
    """Throughput and latency of the requests of a window of time.

    A closed stream's requests belong to the window in which they are done, an open one's to that in
    which they are due. A request has one row, so that requests a second are rows a second.
    Percentiles are of the answers with status 200, from the time they were due; the others are
    counted by status (`0`: no answer).
    """
    mine = [o for o in outcomes if begin <= (o.done if closed else o.due) < end]
    answered = [o for o in mine if o.status == 200]
    return {
        "requests": len(mine),
        "rows_per_s": len(answered) / (end - begin),
        "statuses": statuses(mine),
        **percentiles([o.done - o.due for o in answered]),
        "late_p99_ms": _percentile([o.sent - o.due for o in mine], 99),
    }


def percentiles(seconds: Sequence[float]) -> Record:
    """p50, p95, p99 and the largest, in milliseconds; `None` where there is nothing.

    Example:
        >>> percentiles([0.001, 0.002, 0.003])["p50_ms"]
        2.0
    """
    found: Record = {f"p{rank}_ms": _percentile(seconds, rank) for rank in PERCENTILES}
    return found | {"max_ms": _percentile(seconds, 100)}


def statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many of each status, in their order."""
    counted = Counter(outcome.status for outcome in outcomes)
    return {str(status): counted[status] for status in sorted(counted)}


def spread(values: Sequence[float], name: str) -> Record:
    """Median, min and max over rounds, as `benchmarks.tables.ratio` reads them."""
    return {
        name: float(np.median(values)),
        f"{name}_min": min(values),
        f"{name}_max": max(values),
    }


def _percentile(seconds: Sequence[float], rank: float) -> float | None:
    if not seconds:
        return None
    return round(float(np.percentile(seconds, rank)) * 1000, 6)
