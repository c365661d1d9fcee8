"""Monte Carlo dropout for any PyTorch model: predictions with their uncertainty."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mcdrop.errors import (
    ArtifactError,
    CaptureError,
    InputError,
    McdropError,
    NoStochasticSiteError,
)
from mcdrop.version import __version__

if TYPE_CHECKING:
    from mcdrop import calibration, layers, metrics, monitor, schedules, tasks, tune
    from mcdrop.auditing import Audit, Finding, audit
    from mcdrop.capture import capture
    from mcdrop.layers import regularization
    from mcdrop.loading import load
    from mcdrop.monitor import Monitor
    from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction
    from mcdrop.predictor import MCDropout
    from mcdrop.program import Manifest, Program, Site

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
    "Monitor",
    "NoStochasticSiteError",
    "Prediction",
    "Program",
    "RegressionPrediction",
    "Site",
    "__version__",
    "audit",
    "calibration",
    "capture",
    "layers",
    "load",
    "metrics",
    "monitor",
    "regularization",
    "schedules",
    "tasks",
    "tune",
]

# torch takes more than a second to import: what needs it is imported at first use
_HOMES = {
    "Audit": "auditing",
    "Finding": "auditing",
    "audit": "auditing",
    "ClassificationPrediction": "prediction",
    "Prediction": "prediction",
    "RegressionPrediction": "prediction",
    "MCDropout": "predictor",
    "load": "loading",
    "Monitor": "monitor",
    "Manifest": "program",
    "Program": "program",
    "Site": "program",
    "regularization": "layers",
}
_MODULES = ("calibration", "layers", "metrics", "monitor", "schedules", "tasks", "tune")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"mcdrop.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"mcdrop.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Root(ModuleType):
    """Keeps `mcdrop.capture` the function: importing the package of that name would shadow it."""

    @property
    def capture(self) -> Any:
        return import_module("mcdrop.capture").capture

    @capture.setter
    def capture(self, package: ModuleType) -> None:
        """The import system binds the package here; the function stays."""


sys.modules[__name__].__class__ = _Root
