"""Peak memory of a prediction against the number of samples, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys, torch, mcdrop
from benchmarks.workloads import {workload}
torch.manual_seed(0)
work = {workload}()
mc = mcdrop.MCDropout(work.module, work.x, task="regression")
held = []
def peak():  # of this process's own memory: ru_maxrss would carry over the parent's
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
mc.predict(work.x, samples=8)
before = peak()
mc.predict(work.x, samples=int(sys.argv[1]), progress=lambda *_: held.append({hoard}))
print(before, peak())
"""


def peak(workload: str, samples: int, hoard: str = "None") -> tuple[int, int]:
    """Peak resident bytes of a fresh process: after a warm-up, and in all.

    Args:
        workload: name of a function of `benchmarks.workloads`.
        samples: how many to take.
        hoard: an expression kept after each chunk; a leak made on purpose, for the test.
    """
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(workload=workload, hoard=hoard), str(samples)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, total = (int(word) * 1024 for word in result.stdout.split()[-2:])
    return before, total


def measure(workload: str, few: int = 100, many: int = 10_000) -> dict[str, float | str]:
    """Peak for few and for many samples, as a ratio of all resident memory, and what it grew by."""
    before, small = peak(workload, few)
    _, large = peak(workload, many)
    return {
        "workload": workload,
        "before_mib": before / 2**20,
        f"peak_{few}_mib": small / 2**20,
        f"peak_{many}_mib": large / 2**20,
        "ratio": large / small,
        "growth_mib": (large - small) / 2**20,
    }
