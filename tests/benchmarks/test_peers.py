"""The peers, in their own environment; skipped where `make bench` has not set it up."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers, workloads

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"

needs_peers = pytest.mark.skipif(
    not PYTHON.exists(), reason=".venv-peers is absent: `make bench` sets it up"
)
_SCRIPT = """
import json, sys
from benchmarks import speed
print(json.dumps(speed.measure(sys.argv[1], repeats=3, rate=1e11)["sides"]))
"""


def _sides(workload: str) -> dict[str, dict[str, Any]]:
    result = subprocess.run(
        [PYTHON, "-c", _SCRIPT, workload], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {row["label"]: row for row in json.loads(result.stdout.splitlines()[-1])}


def test_without_their_packages_there_are_no_peers() -> None:
    if peers.installed():
        pytest.skip("the peers are installed here")
    assert peers.build(workloads.uci(4)) == []


def test_versions_are_pinned_once() -> None:
    """A package that both lists name has one version."""
    pins = [
        dict(line.split("==") for line in (ROOT / name).read_text().splitlines() if "==" in line)
        for name in ("constraints.txt", "benchmarks/peers.txt")
    ]
    assert {"baal", "torch-uncertainty"} <= set(pins[1])
    for name in set(pins[0]) & set(pins[1]):
        assert pins[0][name] == pins[1][name]


@needs_peers
@pytest.mark.slow
def test_they_sample_a_plain_net_as_the_naive_loop_does() -> None:
    rows = _sides("uci")
    assert set(rows) == {
        *("naive: loop", "naive: rows repeated"),
        *("baal: rows repeated", "baal: loop", "baal: cached loop"),
        *("torch-uncertainty: rows repeated", "torch-uncertainty: loop"),
    }
    for row in rows.values():
        assert row["note"] == ""
        assert row["draws_share"] == 1.0
        assert row["seconds"] > 0


@needs_peers
@pytest.mark.slow
def test_what_they_miss_of_an_lstm_is_found() -> None:
    """Dropout between the layers: 32 of 33 random numbers."""
    rows = _sides("lstm")
    for label, row in rows.items():
        right = label.startswith("naive")
        assert row["draws_share"] == pytest.approx(1.0 if right else 1 / 33)
        assert (row["note"] == "") == right
