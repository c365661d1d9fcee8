"""Peak memory of a prediction, each in a fresh process: against the naive ways, and in samples."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.record import Record

WORKLOADS = ("vgg_head", "uci", "mlp")  # those that are also taken with 10,000 samples
_MIB = 2**20

# VmHWM is this process's own peak (ru_maxrss would carry over the parent's); writing 5 to
# clear_refs sets it to what the process holds now.
_SCRIPT = """
import dataclasses, sys, torch
from pathlib import Path
from benchmarks import sides, workloads
name, side, samples, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
work = dataclasses.replace(workloads.build(name, device), samples=samples)
held = []
def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
def peak():
    return torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM")
def now():
    return torch.cuda.memory_allocated() if device == "cuda" else status("VmRSS")
if side == "mcdrop":
    mc = sides.montecarlo(work)
    def run(x): return mc.predict(x, samples=samples, progress=lambda *_: held.append({hoard}))
else:
    run = next(s.run for s in sides.naive(work) if s.label == side)
with torch.no_grad():
    work.module(work.x)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")
    before = now()
    run(work.x)
print(before, peak())
"""


def peak(
    name: str, samples: int, side: str = "mcdrop", device: str = "cpu", hoard: str = "None"
) -> tuple[int, int]:
    """Resident bytes of a fresh process: ready to predict, and at the prediction's peak.

    Args:
        name: of the workload.
        samples: how many to take.
        side: `"mcdrop"`, or the label of a naive side.
        device: on `"cuda"`, bytes that torch allocated there.
        hoard: an expression kept after each chunk; a leak made on purpose, for the test.
    """
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(hoard=hoard), name, side, str(samples), device],
        capture_output=True,
        text=True,
        check=True,
    )
    before, total = (int(word) for word in result.stdout.split()[-2:])
    return before, total


def measure(name: str, samples: int, device: str = "cpu") -> Record:
    """What a prediction takes above the state before it, mcdrop's and the naive ways'.

    Args:
        name: of the workload.
        samples: how many to take.
        device: `"cpu"` or `"cuda"`.
    """
    taken = {}
    for side in ("mcdrop", "naive: loop", "naive: rows repeated"):
        before, total = peak(name, samples, side, device)
        taken[side] = (total - before) / _MIB
    return {"workload": name, "samples": samples, "taken_mib": taken}


def growth(
    name: str, few: int = 100, many: int = 10_000, device: str = "cpu", repeats: int = 3
) -> Record:
    """Peak for few and for many samples, as a ratio of all resident memory, and what it grew by.

    Plans are measured, and allocators keep what they may use again: the median of some processes.

    Args:
        name: of the workload.
        few: samples.
        many: samples.
        device: `"cpu"` or `"cuda"`.
        repeats: processes of each kind.
    """
    fews = [peak(name, few, device=device) for _ in range(repeats)]
    manys = [peak(name, many, device=device) for _ in range(repeats)]
    before, small = (statistics.median(values) for values in zip(*fews, strict=True))
    large = statistics.median(total for _, total in manys)
    return {
        "workload": name,
        "before_mib": before / _MIB,
        f"peak_{few}_mib": small / _MIB,
        f"peak_{many}_mib": large / _MIB,
        "ratio": large / small,
        "growth_mib": (large - small) / _MIB,
    }
