"""What an artifact carries beside its model: calibrators and an evaluation, as JSON and back."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from mcdrop.calibration import codec
from mcdrop.calibration.record import Calibration
from mcdrop.errors import ArtifactError
from mcdrop.evaluation.document import Evaluation
from mcdrop.program import Manifest, artifact
from mcdrop.program.artifact import Extra
from mcdrop.program.manifest import first


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
    return None if document is None else codec.decode(document, manifest.task)


def read_evaluation(path: Path, manifest: Manifest) -> Evaluation | None:
    """The evaluation of an artifact; `None` where it has none.

    Raises:
        ArtifactError: the file is damaged or altered.
    """
    document = artifact.read_extra(path, manifest, "evaluation")
    if document is None:
        return None
    try:
        return Evaluation.model_validate(document)
    except ValidationError as error:
        raise ArtifactError(f"{path / 'evaluation.json'}: {first(error)}") from None
