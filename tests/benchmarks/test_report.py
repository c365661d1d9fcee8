"""The documents show the committed results."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plot, record, report, tables, targets
from benchmarks.record import Record

ROOT = Path(report.ROOT)
MODULES = ("accuracy", "coverage", "record", "report", "tables")


@pytest.fixture(scope="module")
def committed() -> list[Record]:
    return record.read(record.RESULTS / "cpu.jsonl")


def test_the_page_shows_the_committed_results(committed: list[Record]) -> None:
    """`python -m benchmarks.report` writes it; the README is looked at in `tests/docs`."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert report.filled(page, report.blocks(committed)) == page


def test_every_part_was_measured(committed: list[Record]) -> None:
    from benchmarks import workloads

    kinds = {kind: tables.of_kind(committed, kind) for kind in ("speed", "memory")}
    for records in kinds.values():
        assert [row["workload"] for row in records] == list(workloads.ALL)
    for kind in ("peak", "masks", "metrics", "growth", "accuracy", "sampling"):
        assert tables.of_kind(committed, kind)
    for row in committed:
        assert set(row["versions"]) >= {"torch", "baal", "torch-uncertainty", "mcdrop"}
        assert row["machine"]["cores"] >= 1


def _side(side: str, variant: str, ratio: float | None, note: str = "") -> dict[str, Any]:
    row = {"side": side, "variant": variant, "label": f"{side}: {variant}", "note": note}
    if ratio is None:
        return {**row, "seconds": None}
    return {**row, "seconds": ratio, "ratio": ratio, "ratio_min": ratio, "ratio_max": ratio}


def _count(samples: int, gain: float, mse: float, bias: float) -> dict[str, float]:
    row = {"samples": samples, "mean_gain": gain, "variance_mse": mse, "variance_bias": bias}
    return row | {"mean_gain_se": 0.1, "variance_mse_se": 0.05, "variance_bias_se": 0.01}


_MASKS = ("dropout_ns", "balanced_bits_ns", "balanced_mask_ns", "iid_bits_ns", "iid_mask_ns")


def _spread(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_min": 0.9 * value, f"{name}_max": 1.1 * value}


@pytest.fixture
def records() -> list[Record]:
    """A small set, made up."""
    speed = {
        "kind": "speed",
        "workload": "mlp",
        "title": "MLP",
        "samples": 1000,
        "mcdrop_s": 0.0123,
        "fresh_s": 0.02,
        "engine": "thinned",
        "dense_flops_fraction": 1.234,
        "best": "naive: loop",
        **_spread("passes", 51.4),
        **_spread("faster_than_loop", 4.2),
        **_spread("faster_than_best", 4.2),
        **_spread("fresh_faster_than_best", 2.6),
        "steady_deterministic_s": 0.0002,
        "steady_s": 0.01,
        "steady_fresh_s": 0.015,
        "steady_best": "naive: loop",
        **_spread("steady_passes", 50.0),
        **_spread("steady_faster_than_best", 4.0),
        **_spread("steady_fresh_faster_than_best", 2.7),
        "sides": [
            _side("naive", "loop", 4.2),
            _side("naive", "rows repeated", 5.0),
            _side("baal", "loop", 2.0, "samples nothing"),
            _side("baal", "cached loop", None, "fails: oh"),
            _side("torch-uncertainty", "loop", 0.5, "wrong"),
            _side("torch-uncertainty", "rows repeated", 7.0),
        ],
    }
    accuracy = {
        "kind": "accuracy",
        "title": "net",
        "data": "made up",
        "rows": 8,
        "seeds": 3,
        "reference_error": 0.001,
        "iid_samples": 96,
        "iid_s": 0.02,
        "default_samples": 16,
        "default_s": 0.004,
        "default_fresh_s": 0.005,
        "other_samples": 112,
        "other": "naive: loop",
        "other_s": 0.1,
    }
    stamp = {
        "date": "2026-11-24T00:00:00+00:00",
        "machine": {"processor": "P", "cores": 2, "threads": 2, "vectors": "AVX512"},
        "versions": {"torch": "2.13.0"},
    }
    return [
        {**row, **stamp}
        for row in (
            {"kind": "peak", "flops_per_s": 98.7e9},
            speed,
            {**speed, "workload": "uci", "title": "UCI", **_spread("faster_than_best", 0.5)},
            {"kind": "memory", "workload": "mlp", "title": "MLP", "samples": 1000}
            | {"taken_mib": {"mcdrop": 5.0, "naive: loop": 6.0, "naive: rows repeated": 700.0}},
            {"kind": "growth", "workload": "mlp", "title": "MLP", "ratio": 1.014},
            accuracy,
            accuracy | dict.fromkeys(("iid_s", "default_s", "default_fresh_s", "other", "other_s")),
            {"kind": "sampling", "model": "digits_mlp", "title": "digits"}
            | {"counts": [_count(16, 3.0, 0.9, 0.01), _count(64, 1.5, 1.3, -0.09)]},
            {"kind": "metrics", "rows": 1_000_000, "summed": ["A", "B"], "ranked": ["C"]}
            | {"summed_s": 0.5, "summed_growth_mib": 0.25, "ranked_s": 1.0}
            | {"ranked_growth_mib": 174.0},
            {"kind": "masks", "rates": [{"p": 0.001} | dict.fromkeys(_MASKS, 1.234)]},
        )
    ]


def test_tables_say_what_the_records_say(records: list[Record]) -> None:
    made = report.blocks(records)
    assert "| MLP | 1,000 | 51.4 | 4.20 | 4.20 | 2.60 |" in made["summary"]
    assert "| 0.20 ms | 10.0 ms | 15.0 ms | **50.0** (45.0 to 55.0) |" in made["steady"]
    assert "| 0.001 | 1.23 | 1.23 | 1.23 | 1.23 | 1.23 |" in made["masks"]
    assert "| 2 that sum or bin | 1,000,000 | 0.50 s | 0.25 MiB |" in made["metrics"]
    assert "12.3 ms | 20.0 ms | **51.4** (46.3 to 56.5)" in made["speed"]
    assert "123% | 5.0 MiB | thinned |" in made["speed"]
    assert "98.7 GFLOP/s" in made["machine"]
    # the fastest way that misses nothing, if there is one; else the fastest, marked
    assert "4.20, loop | 2.00 †, loop | 7.00, rows repeated |" in made["sides"]
    assert "† baal: cached loop, MLP: fails: oh." in made["sides"]
    assert "wrong" not in made["sides"]
    ours, other = "96 in 20.0 ms | 16 in 4.00 ms | 16 in 5.00 ms", "112 in 100 ms | naive: loop"
    assert f"{ours} | {other} | 5.00 | 4.00 | 25.0 | 20.0 |" in made["accuracy"]
    assert "not reached" in made["accuracy"]
    assert made["summary"].endswith("of 10,000 samples is 1.01 (MLP) times that of 100.")


def test_targets_are_judged_by_their_figures(records: list[Record]) -> None:
    found = {target.what: target for target in targets.targets(records)}
    assert len(found) == 11
    met = {what for what, target in found.items() if target.met}
    assert met == {"memory of 10,000 samples against 100, MLP"}
    # within two standard errors of the limit, 2.0 is not 2.5 but 2.4 is
    close = targets.Target("", 2.5, 2.4, above=True, error=0.05)
    assert close.met
    assert not targets.Target("", 2.5, 2.0, above=True, error=0.05).met
    text = targets.table(records)
    assert "| ≥ 5 | 0.50 | **no**: what is left is Python" in text
    assert "| ≥ 2.5 | 1.50 ± 0.10 | **no**: balancing removes" in text


def test_a_document_keeps_its_own_text() -> None:
    text = "a\n<!-- benchmarks: one -->\n<!-- /benchmarks: one -->\nb"
    once = report.filled(text, {"one": "| 1 |", "two": "-"})
    assert once == "a\n<!-- benchmarks: one -->\n| 1 |\n<!-- /benchmarks: one -->\nb"
    assert report.filled(once, {"one": "| 1 |"}) == once
    for broken in (text.replace("/benchmarks", "benchmark"), text.replace("one", "three")):
        with pytest.raises(ValueError, match="must begin and end once"):
            report.filled(broken, {"one": ""})


def test_the_picture_is_drawn_the_same_each_time(records: list[Record], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot.save(records, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_records_take_the_place_of_older_ones(records: list[Record], tmp_path: Path) -> None:
    file = tmp_path / "results" / "cpu.jsonl"
    assert record.read(file) == []
    record.write(file, records)
    assert record.read(file) == json.loads(json.dumps(records))
    new = {"kind": "speed", "workload": "mlp", "samples": 1}
    merged = record.merged(records, [new])
    assert new in merged
    assert len(merged) == len(records) - 1  # the two made-up accuracies are about one model


def test_the_stamp_names_machine_versions_and_command() -> None:
    stamp = record.stamp()
    assert stamp["command"].startswith("python -m benchmarks")
    assert stamp["machine"]["cores"] >= 1
    assert {"python", "mcdrop", "torch"} <= set(stamp["versions"])


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
