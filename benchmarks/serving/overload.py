"""Overload: three times more than the server can do, for a minute, and what is left afterwards."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import Record
from benchmarks.serving import check, nets, servers
from benchmarks.serving.figures import figures, statuses
from benchmarks.serving.load import Outcome, Stream, run
from benchmarks.serving.questions import ask, encoded
from benchmarks.serving.servers import Scale
from benchmarks.serving.stage import Place

ALLOWED = {200, 429, 503}
RECOVERY = 2.0  # seconds within which latency is to be back
_BEFORE, _AFTER = 5.0, 10.0  # seconds of single requests before and after
_STEADY = 5  # single requests in a row that are as quick as before


def measure(name: str, place: Place, *, clients: int, seconds: float, times: float = 3.0) -> Record:
    """Find the capacity in a closed loop, send a multiple of it, and watch the server."""
    questions = ask(name, nets.rows(name))
    requests = encoded(questions)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        nets.publish(name, place.models, root)
        with servers.mcdrop_server(root) as server:
            run([Stream("warm", server.port, requests, 2.0, clients=clients)])
            one = run([Stream("closed", server.port, requests, 8.0, clients=clients)])
            capacity = figures(one.outcomes, one.start + 2, one.start + 8, closed=True)[
                "rows_per_s"
            ]
            streams = _streams(server.port, requests, capacity * times, seconds)
            with Scale(server) as scale:
                loaded = run(streams)
        library = check.Library(root)
        both = [*one.outcomes, *loaded.outcomes]
        wrong = check.wrong(both, questions, library)
    begin = loaded.start + _BEFORE
    over = figures(loaded.of("overload"), begin, begin + seconds, closed=False)
    refused = [o for o in loaded.outcomes if o.status in {429, 503}]
    before, recovered = recovery(loaded.of("before"), loaded.of("after"), begin + seconds)
    record = {
        "workload": name,
        "title": nets.build(name, place.models).title,
        "seconds": seconds,
        "capacity_rows_per_s": capacity,
        "rate": capacity * times,
        "overload": over | {"load_cpu_s": round(loaded.cpu_s, 2)},
        "statuses": statuses(loaded.outcomes),
        "refused_without_retry_after": sum(b"retry-after" not in o.head.lower() for o in refused),
        "before_p50_ms": before * 1000,
        "recovered_s": recovered,
        "memory": _memory(scale, loaded.start),
        "checked": sum(o.status == 200 for o in both),
        "wrong": len(wrong),
        "reasons": sorted({bad.reason for bad in wrong})[:5],
    }
    return record | {"failures": _failures(record)}


def recovery(
    before: Sequence[Outcome], after: Sequence[Outcome], end: float
) -> tuple[float, float | None]:
    """The median latency of single requests before, and how long until it is so again.

    Returns:
        That median, and the seconds from the end of the load to the first of several single
        requests in a row that take no more than twice as long; `None` if there are none.
    """
    usual = statistics.median(o.done - o.sent for o in before if o.status == 200)
    streak: list[Outcome] = []
    for outcome in sorted(after, key=lambda o: o.sent):
        quick = outcome.status == 200 and outcome.done - outcome.sent <= 2 * usual
        streak = [*streak, outcome] if quick else []
        if len(streak) == _STEADY:
            return usual, max(streak[0].sent - end, 0.0)
    return usual, None


def _streams(port: int, requests: tuple[bytes, ...], rate: float, seconds: float) -> list[Stream]:
    end = _BEFORE + seconds
    return [
        Stream("before", port, requests, _BEFORE, clients=1),
        Stream("overload", port, requests, seconds, rate=rate, begin=_BEFORE),
        Stream("after", port, requests, _AFTER, clients=1, begin=end),
    ]


def _memory(scale: Scale, start: float) -> Record:
    mebi = [round(value / 2**20, 1) for value in scale.bytes]
    times = [round(time - start, 1) for time in scale.times]
    return {"times_s": times, "rss_mib": mebi, "first_mib": mebi[0], "peak_mib": max(mebi)}


def _failures(record: Record) -> list[str]:
    """What an operator would not accept."""
    others = {int(status) for status in record["statuses"]} - ALLOWED
    late = record["recovered_s"] is None or record["recovered_s"] > RECOVERY
    missing = record["refused_without_retry_after"]
    said = {
        f"statuses {sorted(others)} beside {sorted(ALLOWED)}": bool(others),
        f"{record['wrong']} wrong answers": bool(record["wrong"]),
        f"latency was not back within {RECOVERY:g} s": late,
        f"{missing} refusals without Retry-After": bool(missing),
    }
    return [text for text, failed in said.items() if failed]
