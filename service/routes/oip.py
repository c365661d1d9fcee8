"""Open Inference Protocol v2 over REST: JSON, and JSON with binary tensors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.inference import Runtime, infer, require_room, runtime
from service.loaded import Loaded
from service.oip.metadata import describe_model, describe_server, model_is_ready, server_is_ready
from service.oip.protocol import (
    InferRequest,
    InferResponse,
    Live,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)
from service.oip.request import choose_outputs, output_tensors, read_query
from service.oip.rest import read_request, write_response
from service.openapi import BINARY, protocol_errors, request_body
from service.routes.models import Name, Number

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

Run = Annotated[Runtime, Depends(runtime)]

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
_BYTES_OF_JSON = {"description": "Bytes of JSON at the front.", "schema": {"type": "integer"}}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "responses": {
        200: {
            "content": {"application/octet-stream": BINARY},
            "headers": {"Inference-Header-Content-Length": _BYTES_OF_JSON},
        },
        **protocol_errors(),
    },
    "openapi_extra": {
        **request_body(InferRequest, _EXAMPLES, binary="application/octet-stream"),
        "parameters": [
            {"name": "Inference-Header-Content-Length", "in": "header", **_BYTES_OF_JSON}
        ],
    },
}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "Not ready."}}
_MODEL_NOT_READY = {**protocol_errors(), 503: {"model": ModelReady, "description": "Not ready."}}


@router.get("", summary="Describe the server")
@router.get("/", include_in_schema=False)
async def server_metadata() -> ServerMetadata:
    """Name, version and the protocol extensions offered."""
    return describe_server()


@router.get("/health/live", summary="Is the server alive?")
async def server_live() -> Live:
    """200 as long as the server answers at all."""
    return Live(live=True)


@router.get("/health/ready", summary="Can the server predict?", responses=_NOT_READY)
async def server_ready(run: Run, response: Response) -> Ready:
    """200 once every model was tried and one of them is ready; 503 before, and while stopping."""
    is_ready = server_is_ready(run)
    response.status_code = 200 if is_ready else 503
    return Ready(ready=is_ready)


@router.get("/models/{model}", summary="Describe a model", responses=protocol_errors())
async def model_metadata(run: Run, model: Name) -> ModelMetadata:
    """Inputs and outputs of the newest version that could be loaded; -1 is a free axis."""
    return describe_model(run, run.registry.ready(model))


@router.get(
    "/models/{model}/versions/{version}",
    summary="Describe a version of a model",
    responses=protocol_errors(),
)
async def version_metadata(run: Run, model: Name, version: Number) -> ModelMetadata:
    """Inputs and outputs of this version; -1 is a free axis."""
    return describe_model(run, run.registry.ready(model, version))


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


def _readiness(run: Runtime, response: Response, model: str, version: int | None) -> ModelReady:
    is_ready = model_is_ready(run, model, version)
    response.status_code = 200 if is_ready else 503
    return ModelReady(name=model, ready=is_ready)


async def _infer(request: Request, run: Runtime, loaded: Loaded) -> Response:
    require_room(run, loaded)
    asked = read_request(await request.body(), request.headers)
    chosen = choose_outputs(loaded, asked)
    timed = await infer(request, run, loaded, read_query(run, loaded, asked))
    return write_response(loaded, asked, output_tensors(chosen, timed.value))
