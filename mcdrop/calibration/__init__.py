"""Recalibration on held-out cases, and conformal prediction.

`fit` makes a calibrator, a frozen dataclass of numbers; calling it applies it. There is no unfitted
one.
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
from mcdrop.calibration.scaling import (
    MatrixScaling,
    SampleTemperature,
    Temperature,
    VectorScaling,
)

__all__ = [
    "Abstention",
    "ConformalIntervals",
    "ConformalQuantiles",
    "ConformalSets",
    "DeviationScaling",
    "HistogramBinning",
    "IsotonicCalibration",
    "MatrixScaling",
    "QuantileRecalibration",
    "SampleTemperature",
    "Temperature",
    "VectorScaling",
    "conformal_threshold",
]
