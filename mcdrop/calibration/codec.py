"""`calibration.json`: a `Calibration` as data, and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
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
from mcdrop.errors import ArtifactError, InputError
from mcdrop.tasks import AnyTask, Gaussian, Regression

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
    "output_scalings": OutputScalings,
    "sets": SetRule,
    "intervals": IntervalRule,
    "cqr": ConformalQuantiles,
    "output_intervals": OutputIntervals,
    "selection": Selection,
}
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "scaling": tuple(_KINDS)[:9],
    "sets": ("sets",),
    "intervals": ("intervals", "cqr", "output_intervals"),
    "selection": ("selection",),
}
# Far beyond what a fit finds, and within what predictions of float32 survive without a NaN.
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (1e-3, 1e3),
    "weight": (-1e6, 1e6),
    "bias": (-1e6, 1e6),
    "factor": (1e-15, 1e15),
    "places": (-1e15, 1e15),
    "penalty": (0.0, 1e6),
    "rank": (0, 2**31),
    "classes": (1, 2**31),
    "cases": (0, 2**63 - 1),
    "scaling_cases": (0, 2**63 - 1),
    "shift": (-1e300, 1e300),
}


def encode(calibration: Calibration) -> dict[str, Any]:
    """Plain data: numbers, text, lists and objects; the model's task is the manifest's to say.

    Raises:
        InputError: it holds a number that `decode` would refuse, such as an infinite one.
    """
    names = {kind: name for name, kind in _KINDS.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "cases": calibration.cases,
        "scaling_cases": calibration.scaling_cases,
        "source": calibration.source.encode(errors="replace").decode(),
    }
    for part in _PARTS:
        held = getattr(calibration, part)
        if held is not None:
            document[part] = {"kind": names[type(held)], **dataclasses.asdict(held)}
    _check_bounds("calibration", document)
    return document


def decode(document: object, task: AnyTask) -> Calibration:
    """Undo `encode`; every number is checked.

    Args:
        document: parsed JSON.
        task: of the model that it came with.

    Raises:
        ArtifactError: it is not what `encode` made, or does not fit the model.
    """
    known = {"format", "cases", "scaling_cases", "source", *_PARTS}
    if not isinstance(document, dict) or not set(document) <= known:
        raise ArtifactError(f"a calibration is an object with {', '.join(sorted(known))}")
    version, source = document.get("format"), document.get("source", "")
    if type(version) is not int or version != FORMAT:
        raise ArtifactError(f"this mcdrop reads calibrations of format {FORMAT}; got {version!r}")
    counts = {name: document.get(name, 0) for name in ("cases", "scaling_cases")}
    whole = all(type(count) is int and count >= 0 for count in counts.values())
    if not whole or not _is_text(source):
        raise ArtifactError("a calibration's cases are a whole number, and its source is text")
    try:
        parts = {part: _part(part, document[part]) for part in _PARTS if part in document}
        _check_bounds("calibration", document)
        made = Calibration(task, source=source, **counts, **parts)
    except (InputError, RecursionError, TypeError) as error:
        raise ArtifactError(f"the calibration is not sound: {error}") from None
    wanted = "std" if isinstance(task, Regression | Gaussian) else "entropy"
    if made.selection is not None and made.selection.uncertainty != wanted:
        raise ArtifactError(
            f"calibration: selection of a {task.kind} model is by {wanted!r}; got "
            f"{made.selection.uncertainty!r}"
        )
    return made


def _part(name: str, held: object) -> Any:  # a dataclass out of `_KINDS`
    if not isinstance(held, dict) or held.get("kind") not in _PARTS[name]:
        raise ArtifactError(f"calibration: {name!r} has a kind out of {', '.join(_PARTS[name])}")
    fields = {key: value for key, value in held.items() if key != "kind"}
    try:
        # as JSON, because there strict takes lists for tuples and nothing else for anything
        text = json.dumps(fields)
        made: Any = TypeAdapter(_KINDS[held["kind"]]).validate_json(text, strict=True)
    except ValidationError as error:
        complaint = error.errors(include_url=False)[0]
        where = ".".join(map(str, complaint["loc"]))
        raise ArtifactError(f"calibration: {name}.{where}: {complaint['msg']}") from None
    _check_known(name, fields, made)
    return made


def _check_known(where: str, given: object, made: Any) -> None:
    """Raise where an object has more fields than the dataclass that was made of it."""
    if isinstance(given, dict):
        unknown = set(given) - {field.name for field in dataclasses.fields(made)}
        if unknown:
            raise ArtifactError(f"calibration: {where!r} has unknown fields {sorted(unknown)}")
        for key, value in given.items():
            _check_known(f"{where}.{key}", value, getattr(made, key))
    elif isinstance(given, list) and given and isinstance(given[0], dict):
        for place, (value, part) in enumerate(zip(given, made, strict=True)):
            _check_known(f"{where}[{place}]", value, part)


def _check_bounds(where: str, held: Mapping[str, Any]) -> None:
    """Raise where a number is out of bounds; `held` is otherwise sound."""
    for key, value in held.items():
        if isinstance(value, dict):
            _check_bounds(f"{where}.{key}", value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for place, part in enumerate(value):
                _check_bounds(f"{where}.{key}[{place}]", part)
        elif key in _BOUNDS:
            low, high = _BOUNDS[key]
            odd = next((n for n in _extremes(value) if not low <= n <= high), None)
            if odd is not None:
                raise InputError(
                    f"{where}.{key} of an artifact lies from {low:g} to {high:g}; got {odd:g}"
                )


def _extremes(value: Any) -> tuple[float, float]:
    """The least and the largest of a number or of nested lists of numbers."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except OverflowError:  # a whole number of more than 300 digits
        return math.inf, math.inf
    return float(numbers.min()), float(numbers.max())


def _is_text(value: object) -> bool:
    """Whether it is text, without halves of characters: JSON can hold them, UTF-8 cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
