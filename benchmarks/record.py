"""Records: one measurement a line, stamped with what it ran on."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers

Record = dict[str, Any]
RESULTS = Path(__file__).parent / "results"


def stamp(device: str = "cpu", module: str = "benchmarks") -> Record:
    """The machine, the versions and the command that a result belongs to."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "device": device,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count() or 0,
            "threads": torch.get_num_threads(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
            **({"accelerator": torch.cuda.get_device_name()} if device == "cuda" else {}),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what took part; the peers only where they are installed."""
    names = ("mcdrop", "torch", "numpy", *(peers.PACKAGES if peers.installed() else ()))
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def read(path: Path) -> list[Record]:
    """The records of a file, none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def key(record: Record) -> tuple[str, str]:
    """What a record is about: a new one takes the place of the old one with the same key."""
    return record["kind"], record.get("workload") or record.get("model") or ""


def merged(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The new records, each in the place of the old one about the same, the others kept.

    Example:
        >>> old = [{"kind": "peak", "n": 1}, {"kind": "speed", "workload": "mlp", "n": 1}]
        >>> merged(old, [{"kind": "peak", "n": 2}, {"kind": "speed", "workload": "uci", "n": 2}])
        ... # doctest: +NORMALIZE_WHITESPACE
        [{'kind': 'peak', 'n': 2}, {'kind': 'speed', 'workload': 'mlp', 'n': 1},
         {'kind': 'speed', 'workload': 'uci', 'n': 2}]
    """
    by_key = {key(record): record for record in (*old, *new)}
    return list(by_key.values())


def write(path: Path, records: Sequence[Record]) -> None:
    """One record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")


def _processor() -> str:
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()
