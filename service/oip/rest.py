"""Inference requests and answers over REST: JSON, and JSON with binary tensors behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from service.errors import InvalidRequestError, MalformedBodyError
from service.loaded import Loaded
from service.oip.protocol import InferInput, InferRequest
from service.oip.request import InferenceRequest, InputTensor, OutputTensor, RequestedOutput
from service.wire.bodies import JSON, parse_json

HEADER = "inference-header-content-length"
_LENGTH = re.compile(r"[0-9]{1,18}")


def read_request(body: bytes, headers: Headers) -> InferenceRequest:
    """Read a body that is JSON, or, where the header says how long that is, has tensors behind it.

    Raises:
        MalformedBodyError: the header or the JSON cannot be read.
        InvalidRequestError: the JSON is no inference request, or the tensors are not those it says.
    """
    said = headers.getlist(HEADER)
    length = _json_length(said, len(body)) if said else len(body)
    asked = parse_json(body[:length], InferRequest)
    tensors = _Tensors(memoryview(body)[length:], offered=bool(said))
    inputs = [_read_input(given, tensors) for given in asked.inputs]
    tensors.finish()
    for output in asked.outputs or ():
        _flag(output.parameters, "binary_data", f"output {output.name!r}")
    _flag(asked.parameters, "binary_data_output", "the request")
    return InferenceRequest(
        inputs,
        [RequestedOutput(output.name, output.parameters) for output in asked.outputs or ()],
        asked.parameters,
        asked.id,
    )


def write_response(
    loaded: Loaded, asked: InferenceRequest, outputs: Sequence[OutputTensor]
) -> Response:
    """Answer in JSON; the outputs for which that was asked follow it in binary."""
    answer: dict[str, Any] = {"model_name": loaded.name, "model_version": str(loaded.version)}
    if asked.id is not None:
        answer["id"] = asked.id
    binary = _binary_outputs(asked, outputs)
    described, buffers = [], []
    for output in outputs:
        entry: dict[str, Any] = {
            "name": output.name,
            "shape": output.values.shape,
            "datatype": output.datatype,
        }
        if output.name in binary:
            buffers.append(to_bytes(output))
            entry["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            entry["data"] = output.values.reshape(-1)
        described.append(entry)
    answer["outputs"] = described
    if not buffers:
        return JSON(answer)
    header = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(
        b"".join([header, *buffers]),
        headers={HEADER: str(len(header))},
        media_type="application/octet-stream",
    )


def to_bytes(output: OutputTensor) -> bytes:
    """The values of a tensor, little-endian and row-major."""
    dtype = output.values.dtype.newbyteorder("<")
    return np.ascontiguousarray(output.values, dtype).tobytes()


class _Tensors:
    """The bytes behind the JSON, from which each binary input takes its part in turn."""

    def __init__(self, data: memoryview, *, offered: bool) -> None:
        self._data = data
        self._offered = offered

    def take(self, given: InferInput) -> memoryview:
        """The bytes of an input, as many as its `binary_data_size` says."""
        size = given.parameters["binary_data_size"]
        if not self._offered:
            raise InvalidRequestError(
                f"input {given.name!r} has binary_data_size, but the request has no "
                "Inference-Header-Content-Length; send it: how many bytes of JSON come first"
            )
        if type(size) is not int or not 0 <= size <= len(self._data):
            raise InvalidRequestError(
                f"input {given.name!r}: binary_data_size is a whole number of bytes that follow "
                f"the JSON, of which {len(self._data)} are left; got {size!r:.40}"
            )
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def finish(self) -> None:
        """Check that no byte is left."""
        if self._data:
            raise InvalidRequestError(
                f"{len(self._data)} bytes follow the JSON that belong to no input; give each "
                "binary input its binary_data_size"
            )


def _json_length(said: Sequence[str], size: int) -> int:
    if len(said) > 1 or not _LENGTH.fullmatch(said[0]) or int(said[0]) > size:
        raise MalformedBodyError(
            "Inference-Header-Content-Length says how many bytes of JSON come first in the body, "
            f"of {size} in all; got {', '.join(said)!r:.40}"
        )
    return int(said[0])


def _read_input(given: InferInput, tensors: _Tensors) -> InputTensor:
    values: list[Any] | memoryview
    if "binary_data_size" in given.parameters:
        if given.data is not None:
            raise InvalidRequestError(
                f"input {given.name!r} has both data and binary_data_size; send one of them"
            )
        values = tensors.take(given)
    elif given.data is not None:
        values = given.data
    else:
        raise InvalidRequestError(
            f"input {given.name!r} has no data; send it as JSON in `data`, or in binary behind the "
            "JSON, with binary_data_size in the input's parameters (shared memory is not offered)"
        )
    return InputTensor(given.name, given.datatype, given.shape, values)


def _flag(parameters: Mapping[str, Any], name: str, where: str) -> None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"{where}: {name} is true or false; got {value!r:.40}")


def _binary_outputs(asked: InferenceRequest, outputs: Sequence[OutputTensor]) -> set[str]:
    """Names of the outputs to send in binary: as each one says, or else the request."""
    general = bool(asked.parameters.get("binary_data_output"))
    wanted = {output.name: output.parameters.get("binary_data") for output in asked.outputs}
    return {
        output.name
        for output in outputs
        if (general if (own := wanted.get(output.name)) is None else own)
    }
