"""Beside LitServe: the same rows to both servers, turn by turn in short rounds."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from benchmarks.record import Record
from benchmarks.serving import check
from benchmarks.serving.figures import spread
from benchmarks.serving.load import Run
from benchmarks.serving.setting import Setting
from benchmarks.serving.stage import Place, Stage, stage, turn, within


def measure(
    name: str, place: Place, setting: Setting, *, clients: int, seconds: float, rounds: int
) -> Record:
    """Rows a second and p99 of both, round by round, and their ratios.

    Every answer of ours is checked, and LitServe's means are held against the truth.
    """
    found: dict[str, list[Record]] = {"ours": [], "theirs": []}
    runs: dict[str, list[Run]] = {"ours": [], "theirs": []}
    with stage(name, place, setting) as on:
        apart = check.closest(on.questions, on.library)
        for number in range(-1, rounds):  # the first round warms up
            for side, server in (("ours", on.ours), ("theirs", on.theirs)):
                one = turn(server, on.questions, clients, seconds)
                runs[side].append(one)
                if number >= 0:
                    found[side].append(within(one, seconds))
        wrong = [bad for one in runs["ours"] for bad in _wrong(one, on)]
        outcomes = [outcome for one in runs["theirs"] for outcome in one.outcomes]
        deviation = check.deviation(outcomes, on.questions, on.library, on.net.samples)
    title = on.net.title
    checked = sum(o.status == 200 for one in runs["ours"] for o in one.outcomes)
    return {
        "workload": name,
        "title": title,
        "samples": on.net.samples,
        "clients": clients,
        "seconds": seconds,
        "setting": asdict(setting),
        **_ratios(found),
        **{side: _summary(rows) for side, rows in found.items()},
        "rounds": found,
        "checked": checked,
        "wrong": len(wrong),
        "reasons": sorted({bad.reason for bad in wrong})[:5],
        "closest_rows": apart,
        "deviation": deviation,
    }


def _wrong(one: Run, on: Stage) -> list[check.Wrong]:
    return check.wrong(one.outcomes, on.questions, on.library)


def _ratios(found: dict[str, list[Record]]) -> Record:
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(found["ours"], found["theirs"], strict=True)
        if ours["p99_ms"] and theirs["p99_ms"]
    ]
    if not pairs:
        raise RuntimeError(
            f"no answers to compare: mcdrop {[row['statuses'] for row in found['ours']]}, "
            f"LitServe {[row['statuses'] for row in found['theirs']]}; is a round too short?"
        )
    faster = [ours["rows_per_s"] / theirs["rows_per_s"] for ours, theirs in pairs]
    sooner = [theirs["p99_ms"] / ours["p99_ms"] for ours, theirs in pairs]
    return spread(faster, "throughput") | spread(sooner, "p99")


def _summary(rows: list[Record]) -> Record:
    """Medians over the rounds."""
    names = ("rows_per_s", "p50_ms", "p95_ms", "p99_ms")
    counted: dict[str, int] = {}
    for row in rows:
        for status, count in row["statuses"].items():
            counted[status] = counted.get(status, 0) + count
    medians = {
        name: float(np.median([row[name] for row in rows if row[name] is not None]))
        for name in names
    }
    return medians | {"statuses": counted}
