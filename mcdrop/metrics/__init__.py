"""Metrics of calibration and uncertainty: `torchmetrics.Metric`s over pure functions.

Each class accumulates over batches, merges over processes, and gives what the function of the same
name in `mcdrop.metrics.functional` gives for all cases at once. What torchmetrics itself has right
(accuracy, errors, correlations, intersection over union) is not repeated here.
"""

from mcdrop.metrics import functional
from mcdrop.metrics.averages import (
    BrierScore,
    EnsembleCRPS,
    GaussianCRPS,
    GaussianNegativeLogLikelihood,
    IntervalCoverage,
    IntervalScore,
    MeanIntervalWidth,
    MixtureNegativeLogLikelihood,
    NegativeLogLikelihood,
    PinballLoss,
)
from mcdrop.metrics.collected import (
    AdaptiveCalibrationError,
    AreaUnderGeneralizedRiskCoverage,
    AreaUnderRiskCoverage,
    AreaUnderSparsificationError,
    DetectionAUROC,
    DetectionAveragePrecision,
    ExcessAreaUnderRiskCoverage,
    ExpectedNormalizedCalibrationError,
    FalsePositiveRate,
    MaximumMeanCalibrationError,
    QuantileCalibrationError,
    UncertaintyCalibrationError,
)
from mcdrop.metrics.reliability import (
    ClasswiseCalibrationError,
    DebiasedCalibrationError,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    ReliabilityMetric,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
)

__all__ = [
    "AdaptiveCalibrationError",
    "AreaUnderGeneralizedRiskCoverage",
    "AreaUnderRiskCoverage",
    "AreaUnderSparsificationError",
    "BrierScore",
    "ClasswiseCalibrationError",
    "DebiasedCalibrationError",
    "DetectionAUROC",
    "DetectionAveragePrecision",
    "EnsembleCRPS",
    "ExcessAreaUnderRiskCoverage",
    "ExpectedCalibrationError",
    "ExpectedNormalizedCalibrationError",
    "FalsePositiveRate",
    "GaussianCRPS",
    "GaussianNegativeLogLikelihood",
    "IntervalCoverage",
    "IntervalScore",
    "MaximumCalibrationError",
    "MaximumMeanCalibrationError",
    "MeanIntervalWidth",
    "MixtureNegativeLogLikelihood",
    "NegativeLogLikelihood",
    "PinballLoss",
    "QuantileCalibrationError",
    "ReliabilityMetric",
    "RootMeanSquareCalibrationError",
    "SmoothCalibrationError",
    "UncertaintyCalibrationError",
    "functional",
]
