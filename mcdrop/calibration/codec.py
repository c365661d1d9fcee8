"""`calibration.json`: a `Calibration` as data, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.record import Calibration
from mcdrop.calibration.rules import IntervalRule, SetRule
from mcdrop.calibration.scaling import (
    MatrixScaling,
    SampleTemperature,
    Temperature,
    VectorScaling,
)
from mcdrop.calibration.selection import Selection
from mcdrop.errors import ArtifactError, InputError
from mcdrop.tasks import AnyTask

FORMAT = 1
_KINDS: Final[Mapping[str, type]] = {
    "temperature": Temperature,
    "sample_temperature": SampleTemperature,
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "histogram": HistogramBinning,
    "isotonic": IsotonicCalibration,
    "deviation": DeviationScaling,
    "quantiles": QuantileRecalibration,
    "sets": SetRule,
    "intervals": IntervalRule,
    "cqr": ConformalQuantiles,
    "selection": Selection,
}
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "scaling": tuple(_KINDS)[:8],
    "sets": ("sets",),
    "intervals": ("intervals", "cqr"),
    "selection": ("selection",),
}


def encode(calibration: Calibration) -> dict[str, Any]:
    """Plain data: numbers, text, lists and objects; the model's task is the manifest's to say."""
    names = {kind: name for name, kind in _KINDS.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "cases": calibration.cases,
        "source": calibration.source,
    }
    for part in _PARTS:
        held = getattr(calibration, part)
        if held is not None:
            document[part] = {"kind": names[type(held)], **dataclasses.asdict(held)}
    return document


def decode(document: object, task: AnyTask) -> Calibration:
    """Undo `encode`; every number is checked.

    Args:
        document: parsed JSON.
        task: of the model that it came with.

    Raises:
        ArtifactError: it is not what `encode` made, or does not fit the model.
    """
    known = {"format", "cases", "source", *_PARTS}
    if not isinstance(document, dict) or not set(document) <= known:
        raise ArtifactError(f"a calibration is an object with {', '.join(sorted(known))}")
    if document.get("format") != FORMAT:
        raise ArtifactError(
            f"this mcdrop reads calibrations of format {FORMAT}; got {document.get('format')!r}"
        )
    cases, source = document.get("cases", 0), document.get("source", "")
    if type(cases) is not int or cases < 0 or not isinstance(source, str):
        raise ArtifactError("a calibration's cases are a whole number, and its source is text")
    try:
        parts = {part: _part(part, document[part]) for part in _PARTS if part in document}
        return Calibration(task, cases=cases, source=source, **parts)
    except (InputError, RecursionError, TypeError) as error:
        raise ArtifactError(f"the calibration is not sound: {error}") from None


def _part(name: str, held: object) -> Any:  # a dataclass out of `_KINDS`
    if not isinstance(held, dict) or held.get("kind") not in _PARTS[name]:
        raise ArtifactError(f"calibration: {name!r} has a kind out of {', '.join(_PARTS[name])}")
    kind = _KINDS[held["kind"]]
    fields = {key: value for key, value in held.items() if key != "kind"}
    unknown = set(fields) - {field.name for field in dataclasses.fields(kind)}
    if unknown:
        raise ArtifactError(f"calibration: {name!r} has unknown fields {sorted(unknown)}")
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        complaint = error.errors(include_url=False)[0]
        where = ".".join(map(str, complaint["loc"]))
        raise ArtifactError(f"calibration: {name}.{where}: {complaint['msg']}") from None
