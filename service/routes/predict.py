"""Native prediction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from torch import Tensor

from mcdrop.tasks import Classification, Gaussian, Regression
from service.errors import InvalidRequestError
from service.inference import Array, Runtime, from_rows, infer, make_query, runtime
from service.loaded import Loaded
from service.openapi import BINARY, problems, query_parameters, request_body
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
            **request_body(PredictRequest, _EXAMPLES, binary=NPY),
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
    as_npy = wants_npy(request)
    asked, inputs = await _read(request, loaded)
    if as_npy:
        asked = asked.model_copy(update={"outputs": one_output(asked)})
    chosen = _choose_outputs(loaded, asked)
    query = make_query(
        run,
        loaded,
        inputs,
        samples=asked.samples,
        seed=asked.seed,
        interval=asked.interval,
        sets=asked.sets,
        abstain_above=asked.abstain_above,
        tolerance=asked.tolerance,
    )
    timed = await infer(request, run, loaded, query)
    fields: dict[str, Any] = dict(timed.value)
    if "label" in chosen:
        fields["label"] = _labels(loaded, timed.value["mean"])
    if "set" in chosen:
        fields["set"] = _sets(loaded, timed.value["set"])
    answer = {
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
    if asked.abstain_above is not None:
        answer["abstention"] = _abstention(loaded, asked.abstain_above)
    return npy_response(answer) if as_npy else JSON(answer)


async def _read(request: Request, loaded: Loaded) -> tuple[PredictRequest, dict[str, Tensor]]:
    if sends_npy(request):
        return read_parameters(request), read_rows(loaded, await request.body())
    refuse_query(request)
    asked = await read_json(request, PredictRequest)
    return asked, from_rows(loaded, asked.inputs)


def _choose_outputs(loaded: Loaded, asked: PredictRequest) -> list[str]:
    """Names of the fields to answer with, in the order of the prediction's own."""
    task = loaded.manifest.task
    possible = [field.name for field in loaded.fields if field.name != "samples"]
    if isinstance(task, Classification) and loaded.manifest.classes:
        possible.append("label")
    regression = isinstance(task, Regression | Gaussian)
    extra = ["lower", "upper"] if asked.interval is not None else []
    if extra and not regression:
        raise InvalidRequestError(
            f"interval is for regression; model {loaded.name!r} does {task.kind}: leave it out"
        )
    if asked.sets is not None:
        calibration = loaded.predictor.calibration
        if calibration is None or calibration.sets is None:
            raise InvalidRequestError(
                f"model {loaded.name!r} has no conformal sets: leave sets out, or fit them with "
                "`mcdrop calibrate`"
            )
        extra.append("set")
    if asked.abstain_above is not None:
        extra.append("abstain")
    if asked.outputs is None:
        return possible + extra
    unknown = sorted(set(asked.outputs) - {*possible, *extra})
    for names, hint in _NEEDS:
        if names & set(unknown) and ("lower" in names) == regression:
            raise InvalidRequestError(hint)
    if unknown:
        raise InvalidRequestError(
            f"model {loaded.name!r} has no output {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(possible + extra)}"
        )
    return [name for name in possible + extra if name in asked.outputs]


_NEEDS = (
    (
        {"lower", "upper"},
        "the outputs 'lower' and 'upper' need an interval: send its level, like \"interval\": 0.9",
    ),
    ({"set"}, "the output 'set' needs a level: send it, for instance \"sets\": 0.9"),
)


def _sets(loaded: Loaded, held: Array) -> list[Any]:
    """Names (or numbers) of the classes in each set, nested as the cases are."""
    task, classes = loaded.manifest.task, loaded.manifest.classes
    assert isinstance(task, Classification)
    last = np.moveaxis(held, task.dim, -1)
    names: Sequence[str | int] = classes or range(last.shape[-1])

    def nested(part: Array) -> list[Any]:
        if part.ndim == 1:
            return [names[int(place)] for place in np.flatnonzero(part)]
        return [nested(inner) for inner in part]

    return nested(last)


def _abstention(loaded: Loaded, above: float) -> dict[str, Any]:
    calibration = loaded.predictor.calibration
    numbers = isinstance(loaded.manifest.task, Regression | Gaussian)
    note: dict[str, Any] = {
        "uncertainty": "std" if numbers else "entropy",
        "abstain_above": above,
        "coverage": None,
        "risk": None,
    }
    if calibration is not None and calibration.selection is not None:
        policy = calibration.abstention(above)
        note |= {"coverage": policy.coverage, "risk": policy.risk}
    return note


def _labels(loaded: Loaded, mean: Array) -> list[Any]:
    task, classes = loaded.manifest.task, loaded.manifest.classes
    assert isinstance(task, Classification)
    assert classes is not None
    labels: list[Any] = np.array(classes, object)[mean.argmax(axis=task.dim)].tolist()
    return labels
