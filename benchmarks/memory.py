"""Peak memory of predictions in a fresh process: against the naive ways, and in samples."""

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
name, side, device, each = *sys.argv[1:4], [int(samples) for samples in sys.argv[4:]]
work = dataclasses.replace(workloads.build(name, device), samples=each[0])
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
    def run(samples):
        mc.predict(work.x, samples=samples, progress=lambda *_: held.append({hoard}))
else:
    taken = next(s.run for s in sides.naive(work) if s.label == side)
    def run(samples): taken(work.x)
with torch.no_grad():
    work.module(work.x)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")
    print("held", now())
    for samples in each:
        run(samples)
        print("held", peak())
"""


def peaks(
    name: str, *samples: int, side: str = "mcdrop", device: str = "cpu", hoard: str = "None"
) -> list[int]:
    """Resident bytes of a fresh process: ready to predict, and the peak after each prediction.

    Args:
        name: of the workload.
        *samples: how many to take, one prediction after another; a naive side takes one.
        side: `"mcdrop"`, or the label of a naive side.
        device: on `"cuda"`, bytes that torch allocated there.
        hoard: an expression kept after each chunk; a leak made on purpose, for the test.
    """
    script = _SCRIPT.format(hoard=hoard)
    result = subprocess.run(
        [sys.executable, "-c", script, name, side, device, *map(str, samples)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split() for line in result.stdout.splitlines())
    return [int(line[1]) for line in lines if line[:1] == ["held"]]


def measure(name: str, samples: int, device: str = "cpu") -> Record:
    """What a prediction takes above the state before it, mcdrop's and the naive ways'.

    Args:
        name: of the workload.
        samples: how many to take.
        device: `"cpu"` or `"cuda"`.
    """
    taken = {}
    for side in ("mcdrop", "naive: loop", "naive: rows repeated"):
        before, total = peaks(name, samples, side=side, device=device)
        taken[side] = (total - before) / _MIB
    return {"workload": name, "samples": samples, "taken_mib": taken}


def growth(
    name: str, few: int = 100, many: int = 10_000, device: str = "cpu", repeats: int = 3
) -> Record:
    """Peak for few samples, and for many after them, as a ratio of all resident memory.

    One process takes both, so that they are computed in the same way: each process chooses the
    fastest one, and of two that are about as fast one may take more memory. Allocators keep what
    they may use again: the median of some processes.

    Args:
        name: of the workload.
        few: samples.
        many: samples.
        device: `"cpu"` or `"cuda"`.
        repeats: processes.
    """
    found = [peaks(name, few, many, device=device) for _ in range(repeats)]
    before, small, large = (statistics.median(values) for values in zip(*found, strict=True))
    return {
        "workload": name,
        "before_mib": before / _MIB,
        f"peak_{few}_mib": small / _MIB,
        f"peak_{many}_mib": large / _MIB,
        "ratio": large / small,
        "growth_mib": (large - small) / _MIB,
    }
