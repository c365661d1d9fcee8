"""Open Inference Protocol v2 over REST, in JSON."""

from __future__ import annotations

import math
from collections import Counter
from importlib.metadata import version as installed_version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from torch import Tensor

from service.bodies import JSON, read_json
from service.errors import EncodingError, InvalidRequestError
from service.fields import FieldSpec
from service.inference import Runtime, check_inputs, infer, make_query, runtime
from service.loaded import Loaded
from service.openapi import protocol_errors, request_body
from service.protocol import (
    BINARY_ONLY,
    DATATYPES,
    InferInput,
    InferRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
    TensorMetadata,
)
from service.routes.models import Name, Number
from service.schemas import MAX_SEED
from service.tensors import from_row_major

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

Run = Annotated[Runtime, Depends(runtime)]

_EXTENSIONS = ("model_repository",)
_PARAMETERS = ("mc_samples", "mc_seed", "mc_tolerance")
_EXAMPLES = {
    "one row": {
        "summary": "One row of the demo model `diabetes`",
        "value": {
            "id": "42",
            "parameters": {"mc_samples": 64, "mc_seed": 0},
            "inputs": [
                {
                    "name": "features",
                    "shape": [1, 10],
                    "datatype": "FP32",
                    "data": [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
                }
            ],
            "outputs": [{"name": "mean"}, {"name": "epistemic"}],
        },
    }
}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "responses": protocol_errors(),
    "openapi_extra": request_body(InferRequest, _EXAMPLES),
}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "Not ready."}}
_MODEL_NOT_READY = {**protocol_errors(), 503: {"model": ModelReady, "description": "Not ready."}}


@router.get("", summary="Describe the server")
@router.get("/", include_in_schema=False)
async def server_metadata() -> ServerMetadata:
    """Name, version and the protocol extensions offered; tensors travel as JSON."""
    return ServerMetadata(
        name="mcdrop", version=installed_version("mcdrop"), extensions=list(_EXTENSIONS)
    )


@router.get("/health/live", summary="Is the server alive?")
async def server_live() -> Live:
    """200 as long as the server answers at all."""
    return Live(live=True)


@router.get("/health/ready", summary="Can the server predict?", responses=_NOT_READY)
async def server_ready(run: Run, response: Response) -> Ready:
    """200 once every model was tried and one of them is ready; 503 before, and while stopping."""
    is_ready = run.scheduler.accepting and run.registry.state() == "ready"
    response.status_code = 200 if is_ready else 503
    return Ready(ready=is_ready)


@router.get("/models/{model}", summary="Describe a model", responses=protocol_errors())
async def model_metadata(run: Run, model: Name) -> ModelMetadata:
    """Inputs and outputs of the newest version that could be loaded; -1 is a free axis."""
    return _metadata(run, run.registry.ready(model))


@router.get(
    "/models/{model}/versions/{version}",
    summary="Describe a version of a model",
    responses=protocol_errors(),
)
async def version_metadata(run: Run, model: Name, version: Number) -> ModelMetadata:
    """Inputs and outputs of this version; -1 is a free axis."""
    return _metadata(run, run.registry.ready(model, version))


@router.get("/models/{model}/ready", summary="Can a model predict?", responses=_MODEL_NOT_READY)
async def model_ready(run: Run, response: Response, model: Name) -> ModelReady:
    """200 if a version of the model can predict."""
    return _readiness(run, response, model, None)


@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="Can a version of a model predict?",
    responses=_MODEL_NOT_READY,
)
async def version_ready(run: Run, response: Response, model: Name, version: Number) -> ModelReady:
    """200 if this version can predict."""
    return _readiness(run, response, model, version)


@router.post("/models/{model}/infer", summary="Infer", **_INFER)
async def infer_model(request: Request, run: Run, model: Name) -> Response:
    """Monte Carlo prediction by the newest version of the model that could be loaded."""
    return await _infer(request, run, run.registry.ready(model))


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer with a given version of a model",
    **_INFER,
)
async def infer_version(request: Request, run: Run, model: Name, version: Number) -> Response:
    """Monte Carlo prediction by this version of the model."""
    return await _infer(request, run, run.registry.ready(model, version))


def _metadata(run: Runtime, loaded: Loaded) -> ModelMetadata:
    def describe(name: str, datatype: str, shape: tuple[int | None, ...]) -> TensorMetadata:
        axes = [-1 if size is None else size for size in shape]
        return TensorMetadata(name=name, datatype=datatype, shape=axes)

    return ModelMetadata(
        name=loaded.name,
        versions=[
            str(version.number)
            for version in run.registry.versions(loaded.name)
            if version.state == "ready"
        ],
        platform="pytorch_mcdrop",
        inputs=[describe(s.name, DATATYPES[s.dtype], s.shape) for s in loaded.manifest.inputs],
        outputs=[describe(f.name, DATATYPES[f.dtype], f.shape) for f in loaded.fields],
    )


def _readiness(run: Runtime, response: Response, model: str, version: int | None) -> ModelReady:
    is_ready = run.scheduler.accepting and run.registry.find(model, version).state == "ready"
    response.status_code = 200 if is_ready else 503
    return ModelReady(name=model, ready=is_ready)


async def _infer(request: Request, run: Runtime, loaded: Loaded) -> Response:
    if "inference-header-content-length" in request.headers:
        raise EncodingError(
            "the binary tensor extension is not offered; send tensors as JSON in `data` "
            "(tritonclient: set_data_from_numpy(..., binary_data=False))"
        )
    asked = await read_json(request, InferRequest)
    chosen = _choose_outputs(loaded, asked)
    _check_parameters(asked)
    query = make_query(
        run,
        loaded,
        _tensors(loaded, asked.inputs),
        samples=_whole_parameter(asked, "mc_samples", 1, run.settings.max_samples),
        seed=_whole_parameter(asked, "mc_seed", 0, MAX_SEED),
        tolerance=_positive_parameter(asked, "mc_tolerance"),
    )
    timed = await infer(request, run, loaded, query)
    answer: dict[str, Any] = {"model_name": loaded.name, "model_version": str(loaded.version)}
    if asked.id is not None:
        answer["id"] = asked.id
    answer["outputs"] = [
        {
            "name": field.name,
            "shape": timed.value[field.name].shape,
            "datatype": DATATYPES[field.dtype],
            "data": timed.value[field.name].astype(field.dtype, copy=False).reshape(-1),
        }
        for field in chosen
    ]
    return JSON(answer)


def _tensors(loaded: Loaded, inputs: list[InferInput]) -> dict[str, Tensor]:
    check_inputs(loaded, [given.name for given in inputs])
    by_name = {given.name: given for given in inputs}
    tensors = {}
    for spec in loaded.manifest.inputs:
        given, datatype = by_name[spec.name], DATATYPES[spec.dtype]
        if given.datatype != datatype:
            raise InvalidRequestError(
                f"input {spec.name!r} has the datatype {datatype}; got {given.datatype!r}"
            )
        if datatype in BINARY_ONLY:
            raise InvalidRequestError(
                f"input {spec.name!r} is {datatype}, which the protocol carries in binary only, "
                "and the binary extension is not offered; "
                f"use POST /v1/models/{loaded.name}/predict"
            )
        if given.data is None:
            raise InvalidRequestError(
                f"input {spec.name!r} has no data; send it as JSON in `data` "
                "(neither binary data nor shared memory is offered)"
            )
        tensors[spec.name] = from_row_major(given.data, given.shape, spec)
    return tensors


def _choose_outputs(loaded: Loaded, asked: InferRequest) -> list[FieldSpec]:
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
        for extension in ("classification", "shared_memory_region"):
            if extension in output.parameters:
                raise InvalidRequestError(
                    f"output {output.name!r}: the extension {extension!r} is not offered"
                )
    return [fields[output.name] for output in asked.outputs]


def _check_parameters(asked: InferRequest) -> None:
    """Refuse ours that do not exist; the protocol lets servers pass over other people's."""
    ours = [key for key in asked.parameters if key.startswith("mc_")]
    unknown = [key for key in ours if key not in _PARAMETERS]
    if unknown:
        raise InvalidRequestError(
            f"there is no parameter {unknown[0]!r}; there are: {', '.join(_PARAMETERS)}"
        )


def _whole_parameter(asked: InferRequest, name: str, low: int, high: int) -> int | None:
    value = asked.parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise InvalidRequestError(
            f"parameter {name!r} is a whole number from {low} to {high}; got {value!r}"
        )
    return value


def _positive_parameter(asked: InferRequest, name: str) -> float | None:
    value = asked.parameters.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise InvalidRequestError(f"parameter {name!r} is a number above 0; got {value!r}")
    return float(value)
