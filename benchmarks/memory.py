"""Peak memory of a prediction against the number of samples, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import resource, sys, torch, mcdrop
from benchmarks.workloads import {workload}
torch.manual_seed(0)
work = {workload}()
mc = mcdrop.MCDropout(work.module, work.x, task="regression")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mc.predict(work.x, samples=int(sys.argv[1]))
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(workload: str, samples: int) -> tuple[int, int]:
    """Peak resident bytes of a fresh process: before predicting, and in all."""
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(workload=workload), str(samples)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, total = (int(word) * 1024 for word in result.stdout.split()[-2:])
    return before, total


def measure(workload: str, few: int = 100, many: int = 10_000) -> dict[str, float | str]:
    """Peak for few and for many samples, as a ratio of all resident memory."""
    before, small = peak(workload, few)
    _, large = peak(workload, many)
    return {
        "workload": workload,
        "before_mib": before / 2**20,
        f"peak_{few}_mib": small / 2**20,
        f"peak_{many}_mib": large / 2**20,
        "ratio": large / small,
    }
