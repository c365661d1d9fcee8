"""Time of a Monte Carlo prediction against one deterministic pass and against the naive loop.

The sides are interleaved in one run, after a warm-up; medians and their spread are of the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

import mcdrop
from benchmarks.workloads import Workload


def measure(work: Workload, rounds: int = 5) -> dict[str, float | str]:
    """Medians in seconds, and the ratios of each round's times.

    Args:
        work: what to run.
        rounds: how often each side is timed.
    """
    module = work.module.eval()
    mc = mcdrop.MCDropout(module, work.x, task="regression")
    naive = _naive(work)
    sides: dict[str, Callable[[], object]] = {
        "deterministic": lambda: module(work.x),
        "mcdrop": lambda: mc.predict(work.x, samples=work.samples),
        "loop": naive,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for timed in range(-1, rounds):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                if timed >= 0:
                    times[name].append(time.perf_counter() - start)
    passes = [m / d for m, d in zip(times["mcdrop"], times["deterministic"], strict=True)]
    faster = [n / m for n, m in zip(times["loop"], times["mcdrop"], strict=True)]
    return {
        "workload": work.name,
        "samples": float(work.samples),
        **{f"{name}_s": statistics.median(values) for name, values in times.items()},
        "passes": statistics.median(passes),
        "passes_min": min(passes),
        "passes_max": max(passes),
        "faster_than_loop": statistics.median(faster),
        "faster_than_loop_min": min(faster),
        "faster_than_loop_max": max(faster),
    }


def _naive(work: Workload) -> Callable[[], object]:
    """Train mode and a loop, as the textbook has it (the workloads have no BatchNorm)."""

    def run() -> object:
        work.module.train()
        try:
            passes = torch.stack([work.module(work.x) for _ in range(work.samples)])
        finally:
            work.module.eval()
        return passes.mean(0), passes.var(0)

    return run
