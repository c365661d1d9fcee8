"""Native prediction."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from torch import Tensor

from mcdrop.tasks import Classification, Gaussian, Regression
from service.bodies import JSON, read_json
from service.errors import InvalidRequestError
from service.inference import Array, Runtime, check_inputs, infer, make_query, runtime
from service.openapi import problems, request_body
from service.registry import Loaded
from service.routes.models import Name, Number
from service.schemas import PredictRequest, PredictResponse
from service.tensors import from_nested

router = APIRouter(prefix="/v1/models", tags=["predict"])

Run = Annotated[Runtime, Depends(runtime)]

_PATIENTS = [
    [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
    [48.0, 1.0, 21.6, 87.0, 183.0, 103.2, 70.0, 3.0, 3.8918, 69.0],
]
_EXAMPLES = {
    "one row": {
        "summary": "One row of the demo model `diabetes`, with a 90% interval",
        "value": {"inputs": _PATIENTS[:1], "samples": 64, "seed": 0, "interval": 0.9},
    },
    "chosen outputs": {
        "summary": "Two rows, only the value and its epistemic uncertainty",
        "value": {"inputs": _PATIENTS, "outputs": ["mean", "epistemic"]},
    },
}


def _document(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "response_model": PredictResponse,
        "responses": problems(400, 404, 413, 415, 422, 429, 503),
        "openapi_extra": request_body(PredictRequest, _EXAMPLES),
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
    asked = await read_json(request, PredictRequest)
    chosen = _choose_outputs(loaded, asked)
    query = make_query(
        run,
        loaded,
        _tensors(loaded, asked.inputs),
        samples=asked.samples,
        seed=asked.seed,
        interval=asked.interval,
        tolerance=asked.tolerance,
    )
    timed = await infer(request, run, loaded, query)
    fields: dict[str, Any] = dict(timed.value)
    if "label" in chosen:
        fields["label"] = _labels(loaded, timed.value["mean"])
    return JSON(
        {
            "id": uuid.uuid4().hex,
            "model": loaded.name,
            "version": loaded.version,
            "samples": fields["samples"],
            "outputs": {name: fields[name] for name in chosen},
            "timing": {
                "queue_ms": round(timed.queued * 1e3, 3),
                "compute_ms": round(timed.computed * 1e3, 3),
            },
        }
    )


def _tensors(loaded: Loaded, inputs: list[Any] | dict[str, list[Any]]) -> dict[str, Tensor]:
    specs = {spec.name: spec for spec in loaded.manifest.inputs}
    if isinstance(inputs, list):
        if len(specs) > 1:
            names = ", ".join(map(repr, specs))
            raise InvalidRequestError(
                f"model {loaded.name!r} has the inputs {names}: send an object with a list for each"
            )
        inputs = {next(iter(specs)): inputs}
    check_inputs(loaded, list(inputs))
    return {name: from_nested(inputs[name], spec) for name, spec in specs.items()}


def _choose_outputs(loaded: Loaded, asked: PredictRequest) -> list[str]:
    """Names of the fields to answer with, in the order of the prediction's own."""
    task = loaded.manifest.task
    possible = [field.name for field in loaded.fields if field.name != "samples"]
    if isinstance(task, Classification) and loaded.manifest.classes:
        possible.append("label")
    regression = isinstance(task, Regression | Gaussian)
    bounds = ["lower", "upper"] if asked.interval is not None else []
    if bounds and not regression:
        raise InvalidRequestError(
            f"interval is for regression; model {loaded.name!r} does {task.kind}: leave it out"
        )
    if asked.outputs is None:
        return possible + bounds
    unknown = sorted(set(asked.outputs) - {*possible, *bounds})
    if regression and not bounds and {"lower", "upper"} & set(unknown):
        raise InvalidRequestError(
            "the outputs 'lower' and 'upper' need an interval: send its level, "
            'for instance "interval": 0.9'
        )
    if unknown:
        raise InvalidRequestError(
            f"model {loaded.name!r} has no output {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(possible + bounds)}"
        )
    return [name for name in possible + bounds if name in asked.outputs]


def _labels(loaded: Loaded, mean: Array) -> list[Any]:
    task, classes = loaded.manifest.task, loaded.manifest.classes
    assert isinstance(task, Classification)
    assert classes is not None
    labels: list[Any] = np.array(classes, object)[mean.argmax(axis=task.dim)].tolist()
    return labels
