"""Charts of an evaluation: pure functions from its parts to SVG text.

An SVG inside a page takes its colours from custom properties that the page gives (`LIGHT`, `DARK`)
and its looks from `STYLE`; one that stands alone brings them with it.
"""

from mcdrop.evaluation.charts.calibration import coverage, reliability
from mcdrop.evaluation.charts.curves import Risk, convergence, error, risk_coverage
from mcdrop.evaluation.charts.distributions import histogram
from mcdrop.evaluation.charts.drawing import DARK, LIGHT, STYLE

__all__ = [
    "DARK",
    "LIGHT",
    "STYLE",
    "Risk",
    "convergence",
    "coverage",
    "error",
    "histogram",
    "reliability",
    "risk_coverage",
]
