"""Native prediction."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from torch import Tensor

from service.inference import Runtime, from_rows, infer, require_room, runtime
from service.loaded import Loaded
from service.openapi import BINARY, problems, query_parameters, request_body
from service.questions import ask_question
from service.routes.models import Name, Number
from service.schemas import PredictRequest, PredictResponse
from service.wire.bodies import JSON, read_json
from service.wire.npy import NPY
from service.wire.predict_npy import (
    HEADERS,
    npy_response,
    one_output,
    read_parameters,
    read_rows,
    refuse_query,
    sends_npy,
    wants_npy,
)

router = APIRouter(prefix="/v1/models", tags=["predict"])

Run = Annotated[Runtime, Depends(runtime)]

_PATIENTS = [
    [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
    [48.0, 1.0, 21.6, 87.0, 183.0, 103.2, 70.0, 3.0, 3.8918, 69.0],
]
EXAMPLES = {
    "one row": {
        "summary": "One row of the demo model `diabetes`, with a 90% interval",
        "value": {"inputs": _PATIENTS[:1], "samples": 64, "seed": 0, "interval": 0.9},
    },
    "chosen outputs": {
        "summary": "Two rows, only the value and its epistemic uncertainty",
        "value": {"inputs": _PATIENTS, "outputs": ["mean", "epistemic"]},
    },
}


_ARRAY = {
    "content": {NPY: BINARY},
    "headers": {
        name: {"description": f"With {NPY}. {meaning}", "schema": {"type": "string"}}
        for name, meaning in HEADERS.items()
    },
}


def _document(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "response_model": PredictResponse,
        "responses": {200: _ARRAY, **problems(400, 404, 406, 413, 415, 422, 429, 503)},
        "openapi_extra": {
            **request_body(PredictRequest, EXAMPLES, binary=NPY),
            "parameters": query_parameters(PredictRequest, f"With a body of {NPY}. "),
        },
    }


@router.post("/{model}/predict", **_document("Predict with uncertainty"))
async def predict(request: Request, run: Run, model: Name) -> Response:
    """Monte Carlo prediction by the newest version of the model that could be loaded."""
    return await _predict(request, run, run.registry.ready(model))


@router.post(
    "/{model}/versions/{version}/predict",
    **_document("Predict with a given version of a model"),
)
async def predict_version(request: Request, run: Run, model: Name, version: Number) -> Response:
    """Monte Carlo prediction by this version of the model."""
    return await _predict(request, run, run.registry.ready(model, version))


async def _predict(request: Request, run: Runtime, loaded: Loaded) -> Response:
    require_room(run, loaded)
    as_npy = wants_npy(request)
    asked, inputs = await _read(request, loaded)
    if as_npy:
        asked = asked.model_copy(update={"outputs": one_output(asked)})
    question = ask_question(run, loaded, asked, inputs)
    timed = await infer(request, run, loaded, question.query)
    answer = question.answer(timed)
    return npy_response(answer) if as_npy else JSON(answer)


async def _read(request: Request, loaded: Loaded) -> tuple[PredictRequest, dict[str, Tensor]]:
    if sends_npy(request):
        return read_parameters(request), read_rows(loaded, await request.body())
    refuse_query(request)
    asked = await read_json(request, PredictRequest)
    return asked, from_rows(loaded, asked.inputs)
