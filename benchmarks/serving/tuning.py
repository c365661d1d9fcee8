"""LitServe at its best: every choice its users have, one after the other, by measurement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

from benchmarks.record import Record
from benchmarks.serving import nets
from benchmarks.serving.questions import ask
from benchmarks.serving.setting import Setting
from benchmarks.serving.stage import Place, litserve, turn, within

# Each step keeps the best of the one before. Threads and workers come with the way of sampling, as
# one may only pay with the other.
_SAMPLING = (
    *(Setting(way="repeat", rows_at_once=rows) for rows in (128, 512, 3200)),
    Setting(way="loop"),
)
_WAYS = [
    replace(sampling, workers=workers, threads=threads)
    for sampling in _SAMPLING
    for workers, threads in ((1, 2), (2, 1))
]
_STEPS: tuple[Callable[[Setting], list[Setting]], ...] = (
    lambda _: list(_WAYS),
    lambda best: [replace(best, batch_timeout=wait) for wait in (0.0, 0.002, 0.005, 0.02)],
    lambda best: [
        replace(best, fast_queue=True),
        replace(best, api_servers=2),
        replace(best, api_servers=2, fast_queue=True),
    ],
    # half of the clients in a batch: one worker gathers while another one computes
    lambda best: [replace(best, max_batch_size=16)],
)


_TURNS = 3  # of each setting; the best one counts, as whatever else happened only slows


def measure(name: str, place: Place, *, clients: int, seconds: float) -> Record:
    """Rows a second of each setting with a closed loop of clients; the best one last."""
    tried: list[tuple[float, Setting, Record]] = []
    for step in _STEPS:
        best = max(tried, key=lambda row: row[0])[1] if tried else Setting()
        for setting in step(best):
            found = _rate(name, place, setting, clients, seconds)
            tried.append((found["rows_per_s"], setting, found))
            sys.stdout.write(f"{'':10}{found['rows_per_s']:8.1f} rows/s  {setting}\n")
            sys.stdout.flush()
    best = max(tried, key=lambda row: row[0])[1]
    return {
        "workload": name,
        "title": nets.build(name, place.models).title,
        "clients": clients,
        "seconds": seconds,
        "tried": [{"setting": asdict(setting), **found} for _, setting, found in tried],
        "best": asdict(best),
    }


def best(records: Iterable[Record], name: str) -> Setting:
    """What was found best for a model, and without a record what was best where it was tried."""
    for record in records:
        if record["kind"] == "serving_tune" and record["workload"] == name:
            return Setting(**record["best"])
    return Setting()


def _rate(name: str, place: Place, setting: Setting, clients: int, seconds: float) -> Record:
    with litserve(name, place, setting) as server:
        questions = ask(name, nets.rows(name))
        turn(server, questions, clients, 1.0)  # warms up
        turns = [within(turn(server, questions, clients, seconds), seconds) for _ in range(_TURNS)]
        return max(turns, key=lambda found: float(found["rows_per_s"]))
