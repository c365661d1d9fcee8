"""`python -m benchmarks`: measure every workload and write the results with what they ran on."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
from pathlib import Path

import torch

from benchmarks import memory, speed, workloads

RESULTS = Path(__file__).parent / "results"


def stamp() -> dict[str, str | int]:
    """The machine and the versions that a result belongs to."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    """Measure, print a table, write JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is timed")
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu.jsonl")
    options = parser.parse_args()
    torch.manual_seed(0)
    records: list[dict[str, float | str]] = []
    print(f"{'workload':20}{'samples':>8}{'passes':>9}{'× loop':>9}   (medians; min to max)")
    for build in workloads.ALL:
        row = speed.measure(build(), options.rounds)
        print(
            f"{row['workload']:20}{row['samples']:8.0f}{row['passes']:9.2f}"
            f"{row['faster_than_loop']:9.2f}   ({row['faster_than_loop_min']:.2f} to "
            f"{row['faster_than_loop_max']:.2f})"
        )
        records.append({"kind": "speed", **row})
    for name in ("vgg_head", "uci"):
        row = memory.measure(name)
        print(f"memory {name}: 10,000 samples take {row['ratio']:.3f} times the peak of 100")
        records.append({"kind": "memory", **row})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    machine = stamp()
    lines = [json.dumps({**record, **machine}) for record in records]
    options.output.write_text("\n".join(lines) + "\n")
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
