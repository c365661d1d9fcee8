"""What metrics take for many rows: yes or no, a million of them, in batches, in fresh processes.

Once through those that sum or bin, whose memory should not grow, and once through those
that rank, which keep what they rank.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.record import Record

ROWS, FEW, BATCH = 1_000_000, 100_000, 10_000
SUMMED = (
    "NegativeLogLikelihood",
    "BrierScore",
    "ExpectedCalibrationError",
    "DebiasedCalibrationError",
    "ClasswiseCalibrationError",
    "MaximumCalibrationError",
    "RootMeanSquareCalibrationError",
    "SmoothCalibrationError",
)
RANKED = ("AdaptiveCalibrationError", "AreaUnderRiskCoverage", "ExcessAreaUnderRiskCoverage")
_MIB = 2**20

_SCRIPT = """
import sys, time, torch
from pathlib import Path
from mcdrop import metrics
names, rows, batch = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])
def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
def given(number):
    g = torch.Generator().manual_seed(number)
    probs = torch.rand(batch, generator=g)
    labels = (torch.rand(batch, generator=g) < probs).long()
    wrong = (labels != (probs > 0.5)).float()
    return {"probs": probs, "labels": labels}, ((probs - 0.5).abs().neg(), wrong)
made = [getattr(metrics, name)(*([2] if "Classwise" in name else [])) for name in names]
def run(rows):
    for metric in made:
        metric.reset()
    taken = 0.0
    for number in range(rows // batch):
        cases, selective = given(number)
        start = time.perf_counter()
        for name, metric in zip(names, made):
            metric.update(*selective) if "RiskCoverage" in name else metric.update(**cases)
        taken += time.perf_counter() - start
    start = time.perf_counter()
    for metric in made:
        metric.compute()
    return taken + time.perf_counter() - start
run(batch)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
print(before, run(rows), status("VmHWM"))
"""


def measure() -> Record:
    """Seconds for a million rows, and by how much memory grows from a tenth of them."""
    figures: Record = {"rows": ROWS, "summed": list(SUMMED), "ranked": list(RANKED)}
    for name, metrics in (("summed", SUMMED), ("ranked", RANKED)):
        _, _, few = _process(metrics, FEW)
        _, seconds, many = _process(metrics, ROWS)
        figures[f"{name}_s"] = seconds
        figures[f"{name}_growth_mib"] = (many - few) / _MIB
        figures[f"{name}_growth"] = many / few
    return figures


def _process(metrics: tuple[str, ...], rows: int) -> tuple[float, float, float]:
    """Resident bytes before, seconds, and resident bytes at the peak."""
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT, ",".join(metrics), str(rows), str(BATCH)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, seconds, peak = (float(word) for word in result.stdout.split()[-3:])
    return before, seconds, peak
