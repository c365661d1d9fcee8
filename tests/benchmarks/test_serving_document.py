"""What the page makes of records: every part, what failed, and what was not measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.record import Record
from benchmarks.serving import plot
from benchmarks.serving.document import NOT_YET, blocks
from benchmarks.serving.setting import Setting
from benchmarks.serving.summary import shown

_STAMP = {
    "date": "2026-01-02T00:00:00+00:00",
    "command": "python -m benchmarks.serving",
    "machine": {"processor": "a processor", "cores": 2, "vectors": "AVX512"},
    "versions": {"mcdrop": "0.1.0", "litserve": "0.2"},
    "server": {"MCDROP_THREADS": "2"},
}
_CHECKED = {"checked": 1234, "wrong": 0, "reasons": []}


def _latency(p50: float, **more) -> Record:
    numbers = {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "max_ms": 4 * p50}
    return {"requests": 200, "rows_per_s": 100.0, "statuses": {"200": 200}, **numbers, **more}


def _ratio(name: str, value: float) -> Record:
    return {name: value, f"{name}_min": 0.9 * value, f"{name}_max": 1.1 * value}


@pytest.fixture
def records() -> list[Record]:
    """One of each kind, made up."""
    mlp = {**_STAMP, "workload": "mlp", "title": "the MLP", "samples": 100, "seconds": 10.0}
    slow, setting = Setting(way="loop"), asdict(Setting())
    tried = [
        {"setting": asdict(slow), **_latency(9.0, rows_per_s=50.0)},
        {"setting": setting, **_latency(5.0)},
    ]
    versus = {
        "setting": setting,
        "clients": 32,
        "rounds": {"ours": [{}, {}, {}]},
        "ours": _latency(5.0, rows_per_s=777.0),
        "theirs": _latency(20.0),
        "closest_rows": 0.0163,
        "deviation": {"rms_standard_errors": 1.02},
    }
    memory = {"first_mib": 400.0, "half_mib": 470.0, "last_mib": 471.0, "peak_mib": 490.0}
    over = {
        "capacity_rows_per_s": 500.0,
        "rate": 1500.0,
        "overload": _latency(80.0, requests=15_000),
        "statuses": {"200": 5000, "429": 10_000},
        "memory": memory,
        "recovered_s": None,
        "failures": ["latency was not back within 2 s"],
    }
    counts = {"200": 5000}
    soak = {
        "minutes": 10.0,
        "valid": counts,
        "bad": {"400": 50, "422": 100},
        "hung_up": 321,
        "killed": 9,
        "reloads": 4,
        "answered_by": {"1": 80, "2": 60},
        "latency": _latency(7.0),
        "memory": {**memory, "slope_mib_per_minute": 0.12, "slope_error": 0.05},
        "drain": counts,
        "cut_off": 0,
        "exit_code": 0,
        "failures": [],
    }
    refusing = _latency(90.0, rate=600.0, statuses={"200": 150, "429": 50})
    rates = {
        "ours": [_latency(4.0, rate=100.0), refusing],
        "theirs": [_latency(9.0, rate=100.0)],
    }
    sweep = {"setting": setting, "capacity": {"ours": 500.0, "theirs": 100.0}, "rates": rates}
    mixed = {
        "rate": 10.0,
        "alone": _latency(3.0),
        "beside": _latency(4.0),
        "large": _latency(900.0),
    }
    return [
        {"kind": "serving_tune", **mlp, "tried": tried, "best": setting},
        {"kind": "serving_versus", **mlp, **versus, **_CHECKED, **_ratio("throughput", 7.77)}
        | _ratio("p99", 4.0),
        {"kind": "serving_mixed", **mlp, **mixed, **_CHECKED, **_ratio("p99_ratio", 1.33)},
        {"kind": "serving_overload", **mlp, **over, **_CHECKED},
        {"kind": "serving_soak", **_STAMP, "workload": "mixture", **soak, **_CHECKED},
        {"kind": "serving_rates", **mlp, **sweep},
    ]


def test_every_part_is_shown(records: list[Record]) -> None:
    made = blocks(records)
    assert "| 777 rows/s | 100 rows/s | **7.77** (6.99 to 8.55) |" in made["versus"]
    assert "1,234 of mcdrop's answers checked, 0 wrong" in made["versus"]
    first, second = made["tuning"].splitlines()[2:4]  # the fastest first
    assert "rows repeated" in first
    assert "loop" in second
    assert "**1.33** (1.20 to 1.46)" in made["mixed"]
    assert "200: 5,000, 429: 10,000" in made["overload"]
    assert "never" in made["overload"]
    assert "- **mlp: latency was not back within 2 s**" in made["overload"]
    assert "+0.12 ± 0.05 MiB a minute" in made["soak"]
    assert "- **" not in made["soak"]
    assert "429: 50" in made["rates"]
    assert made["rates"].count("\n| the MLP |") == 2
    assert "MCDROP_THREADS=2" in made["machine"]


def test_what_was_not_measured_says_so(records: list[Record]) -> None:
    assert set(blocks([]).values()) == {NOT_YET}
    made = blocks(records[:1])
    assert made["soak"] == NOT_YET
    assert made["tuning"] != NOT_YET


def test_who_waits_reads_what_failed(records: list[Record]) -> None:
    lines = {record["kind"]: shown(record) for record in records}
    assert "FAILED: latency was not back within 2 s" in lines["serving_overload"]
    assert all("FAILED" not in text for kind, text in lines.items() if kind != "serving_overload")
    assert "777 rows/s" in lines["serving_versus"]


def test_the_picture_is_the_same_for_the_same_records(
    records: list[Record], tmp_path: Path
) -> None:
    for name in ("a.svg", "b.svg"):
        plot.save(records, tmp_path / name)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    assert "<svg" in drawn
