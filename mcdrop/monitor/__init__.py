"""A training monitor: curves, rates and the calibration gap, live and afterwards."""

from mcdrop.monitor.gaps import (
    ConfidenceGap,
    CoverageGap,
    confidence_gap,
    coverage_gap,
    prediction_gap,
)
from mcdrop.monitor.history import Best, Document, Epoch, History
from mcdrop.monitor.hooks import TrainingHooks
from mcdrop.monitor.learned import rates_now
from mcdrop.monitor.monitor import Monitor

__all__ = [
    "Best",
    "ConfidenceGap",
    "CoverageGap",
    "Document",
    "Epoch",
    "History",
    "Monitor",
    "TrainingHooks",
    "confidence_gap",
    "coverage_gap",
    "prediction_gap",
    "rates_now",
]
