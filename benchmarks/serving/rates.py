"""Rates: latency of an open loop, from a quiet server to one that cannot keep up."""

from __future__ import annotations

import sys
from dataclasses import asdict

from benchmarks.record import Record
from benchmarks.serving import check
from benchmarks.serving.figures import figures
from benchmarks.serving.load import Run, Stream, run
from benchmarks.serving.questions import encoded
from benchmarks.serving.servers import Server
from benchmarks.serving.setting import Setting
from benchmarks.serving.stage import Place, Stage, stage, turn, within

SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of mcdrop's capacity
_THEIRS = (0.5, 0.8, 1.0, 1.1)  # of LitServe's, which may lie below the lowest of those
_REQUESTS, _LONGEST = 200, 60.0  # a p99 of fewer says little; seconds to wait for as many
_ENOUGH = 2000.0  # p99 in milliseconds at which a server is asked no higher rate
_SETTLE = 1.0


def measure(name: str, place: Place, setting: Setting, *, clients: int, seconds: float) -> Record:
    """p50, p95 and p99 of both servers at the same rates, turn by turn.

    The capacities are those of a closed loop. A server that cannot keep up with a rate is not
    asked a higher one: its queue would have to drain first.
    """
    with stage(name, place, setting) as on:
        sides = {"ours": on.ours, "theirs": on.theirs}
        capacity = {}
        for side, server in sides.items():
            turn(server, on.questions, clients, 2.0)  # warms up
            one = turn(server, on.questions, clients, seconds)
            capacity[side] = within(one, seconds)["rows_per_s"]
        rows: dict[str, list[Record]] = {side: [] for side in sides}
        wrong = 0
        wanted = {round(share * capacity["ours"], 2) for share in SHARES}
        wanted |= {round(share * capacity["theirs"], 2) for share in _THEIRS}
        for rate in sorted(wanted):
            for side, server in sides.items():
                if rows[side] and _lost(rows[side][-1]):
                    continue
                length = max(seconds, min(_REQUESTS / rate, _LONGEST))
                one = _at(server, on, rate, length)
                begin = one.start + _SETTLE
                found = figures(one.outcomes, begin, begin + length, closed=False)
                rows[side].append({"rate": rate, **found})
                if side == "ours":
                    wrong += len(check.wrong(one.outcomes, on.questions, on.library))
                _show(side, rows[side][-1])
    return {
        "workload": name,
        "title": on.net.title,
        "samples": on.net.samples,
        "seconds": seconds,
        "clients": clients,
        "setting": asdict(setting),
        "capacity": capacity,
        "rates": rows,
        "wrong": wrong,
    }


def _at(server: Server, on: Stage, rate: float, seconds: float) -> Run:
    server.resume()
    requests = encoded(on.questions, server.path)
    stream = Stream("open", server.port, requests, _SETTLE + seconds, rate=rate)
    try:
        return run([stream])
    finally:
        server.pause()


def _lost(row: Record) -> bool:
    failed = sum(count for status, count in row["statuses"].items() if status != "200")
    slow = row["p99_ms"] is None or row["p99_ms"] > _ENOUGH
    return slow or failed > 0.05 * max(row["requests"], 1)


def _show(side: str, row: Record) -> None:
    p99 = "none" if row["p99_ms"] is None else f"{row['p99_ms']:.1f} ms"
    sys.stdout.write(f"{'':10}{side:7}{row['rate']:9.1f}/s  p99 {p99}, {row['statuses']}\n")
    sys.stdout.flush()
