"""Monte Carlo dropout for any PyTorch model: predictions with their uncertainty."""

from mcdrop import tasks
from mcdrop.capture import Audit, Finding, audit, capture
from mcdrop.errors import (
    ArtifactError,
    CaptureError,
    InputError,
    McdropError,
    NoStochasticSiteError,
)
from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction
from mcdrop.predictor import MCDropout, load
from mcdrop.program import Manifest, Program, Site
from mcdrop.version import __version__

__all__ = [
    "ArtifactError",
    "Audit",
    "CaptureError",
    "ClassificationPrediction",
    "Finding",
    "InputError",
    "MCDropout",
    "Manifest",
    "McdropError",
    "NoStochasticSiteError",
    "Prediction",
    "Program",
    "RegressionPrediction",
    "Site",
    "__version__",
    "audit",
    "capture",
    "load",
    "tasks",
]
