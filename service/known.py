"""A predictor of rows whose prediction is known: what the evaluation asks, the scheduler said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from mcdrop.calibration import Calibration
from mcdrop.prediction import Prediction
from mcdrop.program.manifest import Manifest
from mcdrop.tasks import AnyTask
from service.loaded import Loaded


class Known:
    """Answers `evaluate` from a prediction that was made already.

    Args:
        loaded: the model that made it.
        prediction: of all rows, in order.
    """

    def __init__(self, loaded: Loaded, prediction: Prediction) -> None:
        self.task: AnyTask = loaded.predictor.task
        self.manifest: Manifest | None = loaded.manifest
        self._calibration = loaded.predictor.calibration
        self._prediction = prediction

    @property
    def calibration(self) -> Calibration | None:
        """What the prediction is calibrated with."""
        return self._calibration

    def predict(
        self,
        x: Mapping[str, Tensor],
        *,
        samples: int,  # noqa: ARG002 (the protocol's; it was made with so many)
        seed: int,  # noqa: ARG002
        first_row: int,
    ) -> Prediction:
        """The part of the prediction that is these rows'."""
        rows = len(next(iter(x.values())))
        return self._prediction.part(first_row, first_row + rows)

    def stream(
        self,
        x: Mapping[str, Tensor],  # noqa: ARG002
        *,
        samples: int,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Iterator[Prediction]:
        """Never called: it would take more samples, so the service asks for no convergence."""
        raise AssertionError("a known prediction has no samples to stream")
