"""A loaded artifact, saved again with another calibration or evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcdrop.evaluation.document import Evaluation
from mcdrop.extras import write_extras
from mcdrop.predictor import MCDropout
from mcdrop.program import artifact


def save_again(
    mc: MCDropout,
    path: Path,
    *,
    version: int | None = None,
    evaluation: Evaluation | None = None,
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Save a loaded predictor, with the calibration that it has now.

    Args:
        mc: from `load`.
        path: folder of the artifact.
        version: another version number.
        evaluation: of the predictor as it is; its figures become the manifest's metrics. Without
            one there are none: those of another calibration would not be true.
        provenance: further entries.
        overwrite: replace an artifact that is already there.

    Raises:
        ArtifactError: it cannot be written.
    """
    assert mc.manifest is not None, "a loaded predictor has its manifest"
    manifest = mc.manifest.model_copy(
        update={
            "version": version or mc.manifest.version,
            "metrics": {} if evaluation is None else headline(evaluation),
            "provenance": {**mc.manifest.provenance, **(provenance or {})},
        }
    )
    extras = write_extras(mc.calibration, evaluation)
    return artifact.save(path, mc.program, manifest, extras=extras, overwrite=overwrite)


def headline(evaluation: Evaluation) -> dict[str, float]:
    """The figures that a manifest shows: scores, calibration, and coverage where it has it."""
    return {
        figure.name: figure.value
        for figure in evaluation.figures
        if figure.topic in ("scores", "calibration", "sets") and figure.value is not None
    }
