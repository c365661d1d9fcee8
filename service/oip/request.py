"""An inference request as both transports understand it, and the question it puts to a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from service.errors import InvalidRequestError
from service.fields import FieldSpec
from service.inference import Query, Runtime, check_inputs, make_query
from service.loaded import Loaded
from service.oip.protocol import BINARY_ONLY, DATATYPES
from service.schemas import MAX_SEED
from service.wire.arrays import Array, from_bytes
from service.wire.tensors import from_row_major

_PARAMETERS = ("mc_samples", "mc_seed", "mc_tolerance")
_NOT_OFFERED = ("classification", "shared_memory_region")


@dataclass(frozen=True, slots=True, eq=False)
class InputTensor:
    """An input: `values` are a list, flat or nested, or the tensor's little-endian bytes."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: list[Any] | bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class RequestedOutput:
    """An output to answer with."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class InferenceRequest:
    """Named tensors, parameters, and the outputs to answer with: all of them if there is none."""

    inputs: Sequence[InputTensor]
    outputs: Sequence[RequestedOutput]
    parameters: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OutputTensor:
    """An output; `values` are C-contiguous, of the datatype that metadata promise."""

    name: str
    datatype: str
    values: Array


def read_query(run: Runtime, loaded: Loaded, asked: InferenceRequest) -> Query:
    """Check tensors and parameters against the model and the server's limits.

    Raises:
        InvalidRequestError: they do not fit.
    """
    _check_parameters(asked)
    return make_query(
        run,
        loaded,
        _tensors(loaded, asked.inputs),
        samples=_whole_parameter(asked, "mc_samples", 1, run.settings.max_samples),
        seed=_whole_parameter(asked, "mc_seed", 0, MAX_SEED),
        tolerance=_positive_parameter(asked, "mc_tolerance"),
    )


def choose_outputs(loaded: Loaded, asked: InferenceRequest) -> list[FieldSpec]:
    """The fields to answer with, in the order in which they were asked for.

    Raises:
        InvalidRequestError: one is unknown, or there twice, or wanted in a way not offered.
    """
    fields = {field.name: field for field in loaded.fields}
    if not asked.outputs:
        return list(fields.values())
    counts = Counter(output.name for output in asked.outputs)
    unknown = [name for name in counts if name not in fields]
    if unknown or max(counts.values()) > 1:
        said = ", ".join(map(repr, unknown)) or "the same output twice"
        raise InvalidRequestError(
            f"model {loaded.name!r} has no output {said}; it has: {', '.join(fields)}"
        )
    for output in asked.outputs:
        for extension in _NOT_OFFERED:
            if extension in output.parameters:
                raise InvalidRequestError(
                    f"output {output.name!r}: the extension {extension!r} is not offered"
                )
    return [fields[output.name] for output in asked.outputs]


def output_tensors(chosen: Sequence[FieldSpec], values: Mapping[str, Array]) -> list[OutputTensor]:
    """The chosen fields of a prediction."""
    return [
        OutputTensor(
            field.name, DATATYPES[field.dtype], values[field.name].astype(field.dtype, copy=False)
        )
        for field in chosen
    ]


def _tensors(loaded: Loaded, inputs: Sequence[InputTensor]) -> dict[str, Tensor]:
    check_inputs(loaded, [given.name for given in inputs])
    by_name = {given.name: given for given in inputs}
    tensors = {}
    for spec in loaded.manifest.inputs:
        given, datatype = by_name[spec.name], DATATYPES[spec.dtype]
        if given.datatype != datatype:
            raise InvalidRequestError(
                f"input {spec.name!r} has the datatype {datatype}; got {given.datatype!r}"
            )
        if not isinstance(given.values, list):
            tensors[spec.name] = from_bytes(given.values, given.shape, spec)
        elif datatype in BINARY_ONLY:
            raise InvalidRequestError(
                f"input {spec.name!r} is {datatype}, which the protocol carries in binary only; "
                "send its bytes (REST: binary_data_size; gRPC: raw_input_contents), or use "
                f"POST /v1/models/{loaded.name}/predict"
            )
        else:
            tensors[spec.name] = from_row_major(given.values, given.shape, spec)
    return tensors


def _check_parameters(asked: InferenceRequest) -> None:
    """Refuse ours that do not exist; the protocol lets servers pass over other people's."""
    ours = [key for key in asked.parameters if key.startswith("mc_")]
    unknown = [key for key in ours if key not in _PARAMETERS]
    if unknown:
        raise InvalidRequestError(
            f"there is no parameter {unknown[0]!r}; there are: {', '.join(_PARAMETERS)}"
        )


def _whole_parameter(asked: InferenceRequest, name: str, low: int, high: int) -> int | None:
    value = asked.parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequestError(
            f"parameter {name!r} is a whole number from {low} to {high}; got {value!r}"
        )
    return value


def _positive_parameter(asked: InferenceRequest, name: str) -> float | None:
    value = asked.parameters.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise InvalidRequestError(f"parameter {name!r} is a number above 0; got {value!r}")
    return float(value)
