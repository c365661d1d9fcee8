"""Recalibration on held-out cases, and conformal prediction.

`fit` makes a calibrator, a frozen dataclass of numbers; calling it applies it. There is no unfitted
one. A `Calibration` holds those of a model: `MCDropout.calibrate` makes it, artifacts carry it.
"""

from mcdrop.calibration.abstention import Abstention
from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import (
    ConformalIntervals,
    ConformalQuantiles,
    ConformalSets,
    conformal_threshold,
)
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.fitting import fit_calibration
from mcdrop.calibration.outputs import OutputIntervals, OutputScalings
from mcdrop.calibration.record import Calibration
from mcdrop.calibration.rules import IntervalRule, SetRule
from mcdrop.calibration.scaling import (
    MatrixScaling,
    SampleTemperature,
    Temperature,
    VectorScaling,
)
from mcdrop.calibration.selection import Selection

__all__ = [
    "Abstention",
    "Calibration",
    "ConformalIntervals",
    "ConformalQuantiles",
    "ConformalSets",
    "DeviationScaling",
    "HistogramBinning",
    "IntervalRule",
    "IsotonicCalibration",
    "MatrixScaling",
    "OutputIntervals",
    "OutputScalings",
    "QuantileRecalibration",
    "SampleTemperature",
    "Selection",
    "SetRule",
    "Temperature",
    "VectorScaling",
    "conformal_threshold",
    "fit_calibration",
]
