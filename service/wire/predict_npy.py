"""Native prediction with .npy bodies: what JSON says beside the numbers is in query and headers."""

from __future__ import annotations

from types import NoneType
from typing import Any

import numpy as np
from fastapi import Request, Response
from pydantic import ValidationError
from torch import Tensor

from service.errors import InvalidRequestError, NotAcceptableError
from service.loaded import Loaded
from service.schemas import PredictRequest
from service.wire.arrays import Array, from_array
from service.wire.npy import NPY, read_npy, write_npy
from service.wire.preferences import choose_media_type

_OFFERED = ("application/json", NPY)
_NOT_NUMBERS = ("label", "set")
_NAMES = tuple(
    name
    for name, field in PredictRequest.model_fields.items()
    if name != "inputs" and field.annotation is not NoneType
)


HEADERS = {
    "X-Mcdrop-Id": "Names this prediction.",
    "X-Mcdrop-Model": "The model.",
    "X-Mcdrop-Version": "Its version.",
    "X-Mcdrop-Output": "The field that the array holds.",
    "X-Mcdrop-Samples": "Samples used for each row; where rows differ fewest and most: 64-512.",
    "X-Mcdrop-Queue-Ms": "Milliseconds waiting for the device.",
    "X-Mcdrop-Compute-Ms": "Milliseconds on the device.",
}


def wants_npy(request: Request) -> bool:
    """Whether the caller would rather have an array than JSON.

    Raises:
        NotAcceptableError: neither will do.
    """
    accepted = request.headers.getlist("accept")
    chosen = choose_media_type(accepted, _OFFERED)
    if chosen is None:
        raise NotAcceptableError(
            f"answers are {' or '.join(_OFFERED)}; Accept names neither: "
            f"{', '.join(accepted)!r:.80}"
        )
    return chosen == NPY


def sends_npy(request: Request) -> bool:
    """Whether the body is said to be a .npy file."""
    said = request.headers.get("content-type", "")
    return said.partition(";")[0].strip().lower() == NPY


def refuse_query(request: Request) -> None:
    """Refuse parameters in the query of a request that has them in its JSON.

    Raises:
        InvalidRequestError: there is one.
    """
    ours = [name for name in request.query_params if name in _NAMES]
    if ours:
        raise InvalidRequestError(
            f"{ours[0]} is in the query, which goes with a body of {NPY}; put it into the JSON"
        )


def read_parameters(request: Request) -> PredictRequest:
    """Read from the query what the JSON of a request would say beside its inputs.

    Raises:
        InvalidRequestError: a parameter is unknown, there twice, or not what it should be.
    """
    given: dict[str, Any] = {"inputs": []}  # they are in the body
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if name != "outputs" and len(values) > 1:
            raise InvalidRequestError(f"{name} is in the query {len(values)} times; send it once")
        if name not in _NAMES:
            raise InvalidRequestError(
                f"there is no parameter {name!r}; there are: {', '.join(_NAMES)}"
            )
        given[name] = values if name == "outputs" else values[0]
    try:
        return PredictRequest.model_validate(given)
    except ValidationError as error:
        said = InvalidRequestError.from_validation(error, _NAMES)
        raise InvalidRequestError(f"in the query: {said}") from None  # not pointers into a body


def read_rows(loaded: Loaded, body: bytes) -> dict[str, Tensor]:
    """Turn a .npy body into the tensor of a model with a single input.

    Raises:
        MalformedBodyError: it is no .npy file.
        InvalidRequestError: the array does not fit the model, or it takes several.
    """
    specs = loaded.manifest.inputs
    if len(specs) > 1:
        names = ", ".join(repr(spec.name) for spec in specs)
        raise InvalidRequestError(
            f"model {loaded.name!r} has the inputs {names}, and a .npy file holds one array; send "
            f"JSON, or binary tensors to POST /v2/models/{loaded.name}/infer"
        )
    return {specs[0].name: from_array(read_npy(body), specs[0])}


def one_output(asked: PredictRequest) -> list[str]:
    """The single field that an array can hold: the one that was asked for, else the mean.

    Raises:
        InvalidRequestError: several were asked for, or one that is not of numbers.
    """
    names = ["mean"] if asked.outputs is None else asked.outputs
    if len(names) != 1:
        raise InvalidRequestError(
            f"{NPY} holds one output: name exactly one in outputs, or accept JSON; "
            f"got {', '.join(names) or 'none'}"
        )
    if names[0] in _NOT_NUMBERS:
        raise InvalidRequestError(f"the output {names[0]!r} is not of numbers: accept JSON")
    return names


def npy_response(answer: dict[str, Any]) -> Response:
    """Write an answer with a single output as a .npy file, and the rest of it in headers."""
    (name, values), *_ = answer["outputs"].items()
    said = (
        answer["id"],
        answer["model"],
        answer["version"],
        name,
        _range(answer["samples"]),
        answer["timing"]["queue_ms"],
        answer["timing"]["compute_ms"],
    )
    headers = dict(zip(HEADERS, map(str, said), strict=True))
    return Response(write_npy(values), headers=headers, media_type=NPY)


def _range(samples: Array) -> str:
    fewest, most = int(np.min(samples)), int(np.max(samples))
    return str(most) if fewest == most else f"{fewest}-{most}"
