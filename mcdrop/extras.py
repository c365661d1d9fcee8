"""What an artifact carries beside its model: calibrators and an evaluation, as JSON and back."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pydantic import ValidationError

from mcdrop.calibration import codec
from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.outputs import OutputIntervals, OutputScalings
from mcdrop.calibration.record import Calibration
from mcdrop.calibration.scaling import MatrixScaling, VectorScaling
from mcdrop.errors import ArtifactError
from mcdrop.evaluation.document import FORMAT, Evaluation
from mcdrop.program import Manifest, artifact
from mcdrop.program.artifact import Extra
from mcdrop.program.manifest import first
from mcdrop.tasks import Binary, Classification, Gaussian, Multilabel

log = logging.getLogger(__name__)


def write_extras(
    calibration: Calibration | None, evaluation: Evaluation | None
) -> dict[Extra, bytes]:
    """The files of what is there, by name."""
    files: dict[Extra, bytes] = {}
    if calibration is not None:
        text = json.dumps(codec.encode(calibration), indent=1, allow_nan=False)
        files["calibration"] = text.encode()
    if evaluation is not None:
        files["evaluation"] = evaluation.model_dump_json(indent=1).encode()
    return files


def read_calibration(path: Path, manifest: Manifest) -> Calibration | None:
    """The calibrators of an artifact; `None` where it has none.

    Raises:
        ArtifactError: the file is damaged or altered, or does not fit the model.
    """
    document = artifact.read_extra(path, manifest, "calibration")
    if document is None:
        return None
    calibration = codec.decode(document, manifest.task)
    _check_sizes(calibration, manifest)
    return calibration


def read_evaluation(path: Path, manifest: Manifest) -> Evaluation | None:
    """The evaluation of an artifact; `None` where it has none that this mcdrop can read.

    One of another format is left out with a warning: the model is as good as it was, and must be
    loaded to be evaluated again.

    Raises:
        ArtifactError: the file is damaged or altered, or is about a model of another task.
    """
    document = artifact.read_extra(path, manifest, "evaluation")
    if document is None:
        return None
    version = document.get("format") if isinstance(document, dict) else None
    if type(version) is int and version != FORMAT:
        log.warning(
            "%s: an evaluation of format %d is left out; this mcdrop reads format %d: make a new "
            "one with `mcdrop evaluate --attach`", path / "evaluation.json", version, FORMAT,
        )  # fmt: skip
        return None
    try:
        # as JSON, because there strict takes lists for tuples and nothing else for anything
        found = Evaluation.model_validate_json(json.dumps(document), strict=True)
    except (ValidationError, RecursionError) as error:
        why = first(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise ArtifactError(f"{path / 'evaluation.json'}: {why}") from None
    if found.model.task != manifest.task.kind:
        raise ArtifactError(
            f"{path / 'evaluation.json'}: the model is a {manifest.task.kind} one; got figures of "
            f"a {found.model.task} model"
        )
    return found


def _check_sizes(calibration: Calibration, manifest: Manifest) -> None:
    """Raise unless calibrators are for as many classes and outputs as the model has.

    Raises:
        ArtifactError: they are not.
    """
    classes, outputs = _classes(manifest), _outputs(manifest)
    sizes = [
        ("classes", _fitted_classes(calibration.scaling), classes),
        ("classes", calibration.sets.classes if calibration.sets else None, classes),
        ("outputs", _fitted_outputs(calibration.scaling), outputs),
        ("outputs", _fitted_outputs(calibration.intervals), outputs),
    ]
    for what, fitted, there in sizes:
        if fitted is not None and there is not None and fitted != there:
            raise ArtifactError(
                f"the calibration was fitted for {fitted} {what}; the model has {there}"
            )


def _classes(manifest: Manifest) -> int | None:
    """Of the model; `None` where nobody knows."""
    if isinstance(manifest.task, Binary | Multilabel):
        return 2  # yes and no, of each label
    if not isinstance(manifest.task, Classification):
        return None
    return manifest.class_count() or (len(manifest.classes) if manifest.classes else None)


def _outputs(manifest: Manifest) -> int | None:
    """How many numbers `[B, D]` the model predicts; `None` where nobody knows."""
    task, shape = manifest.task, manifest.entry().shape
    if len(shape) != 2:
        return 1  # no axis of outputs
    halves = isinstance(task, Gaussian) and task.log_variance is None
    return shape[1] // 2 if halves and shape[1] is not None else shape[1]


def _fitted_classes(scaling: object) -> int | None:
    match scaling:
        case VectorScaling() | MatrixScaling():
            return len(scaling.bias)
        case HistogramBinning():
            return max(2, len(scaling.frequencies))
        case IsotonicCalibration():
            return max(2, len(scaling.knots))
    return None


def _fitted_outputs(calibrator: object) -> int | None:
    if isinstance(calibrator, OutputScalings | OutputIntervals):
        return len(calibrator.parts)
    return None
