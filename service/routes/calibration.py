"""How good the predictions are: what was measured offline, and what labelled rows say now."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from torch import Tensor

from mcdrop.evaluation import Evaluation, Labelled, charts, evaluate
from mcdrop.prediction import Prediction
from mcdrop.tasks import Gaussian, Regression
from service.batching.ask import Ask
from service.errors import InvalidRequestError, NotFoundError
from service.inference import Query, Runtime, from_rows, make_query, runtime, unless_gone
from service.known import Known
from service.loaded import Loaded
from service.openapi import problems, request_body
from service.routes.models import Name, Number
from service.schemas import CalibrationResponse, EvaluateRequest
from service.targets import read_targets
from service.wire.bodies import JSON, read_json

router = APIRouter(prefix="/v1/models", tags=["calibration"])

Run = Annotated[Runtime, Depends(runtime)]

_IMAGE = [
    [0.0, 0.0, 0.4375, 1.0, 0.875, 0.1875, 0.0, 0.0],
    [0.0, 0.0, 0.5625, 0.875, 0.6875, 0.9375, 0.0, 0.0],
    [0.0, 0.0, 0.0625, 0.3125, 0.0, 0.9375, 0.3125, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.3125, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.1875, 1.0, 0.25, 0.0],
    [0.0, 0.0, 0.0, 0.0625, 0.75, 0.875, 0.0625, 0.0],
    [0.0, 0.0, 0.3125, 0.75, 1.0, 1.0, 0.875, 0.0625],
    [0.0, 0.0, 0.5, 1.0, 0.875, 0.625, 0.8125, 0.1875],
]
_EXAMPLES = {
    "four patients": {
        "summary": "Rows of the demo model `diabetes` with what their progression was",
        "value": {
            "inputs": [
                [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
                [48.0, 1.0, 21.6, 87.0, 183.0, 103.2, 70.0, 3.0, 3.8918, 69.0],
                [72.0, 2.0, 30.5, 93.0, 156.0, 93.6, 41.0, 4.0, 4.6728, 85.0],
                [24.0, 1.0, 25.3, 84.0, 198.0, 131.4, 40.0, 5.0, 4.8903, 89.0],
            ],
            "targets": [151.0, 75.0, 141.0, 206.0],
        },
    },
    "classes": {
        "summary": "An image for the demo model `digits` twice, its class by number and by name",
        "value": {
            "inputs": [[_IMAGE], [_IMAGE]],
            "targets": [2, "2"],
            "groups": ["first", "again"],
            "samples": 32,
        },
    },
}
_SVG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/svg+xml": {}}}
}
_EVALUATE: dict[str, Any] = {
    "response_model": Evaluation,
    "responses": problems(400, 404, 413, 415, 422, 429, 503),
    "openapi_extra": request_body(EvaluateRequest, _EXAMPLES),
}


@router.get(
    "/{model}/calibration",
    summary="How well is a model calibrated?",
    responses=problems(404, 422, 503),
)
async def get_calibration(run: Run, model: Name) -> CalibrationResponse:
    """The calibrators that its predictions pass, and the evaluation that it came with."""
    return _calibration(run.registry.ready(model))


@router.get(
    "/{model}/versions/{version}/calibration",
    summary="How well is a version of a model calibrated?",
    responses=problems(404, 422, 503),
)
async def get_version_calibration(run: Run, model: Name, version: Number) -> CalibrationResponse:
    """The calibrators that its predictions pass, and the evaluation that it came with."""
    return _calibration(run.registry.ready(model, version))


@router.get(
    "/{model}/calibration/reliability.svg",
    summary="Draw the reliability diagram",
    response_class=Response,
    responses={**_SVG, **problems(404, 422, 503)},
)
async def get_reliability(run: Run, model: Name) -> Response:
    """Accuracy over confidence; for numbers the share of targets in intervals of each level."""
    return _reliability(run.registry.ready(model))


@router.get(
    "/{model}/versions/{version}/calibration/reliability.svg",
    summary="Draw the reliability diagram of a version",
    response_class=Response,
    responses={**_SVG, **problems(404, 422, 503)},
)
async def get_version_reliability(run: Run, model: Name, version: Number) -> Response:
    """Accuracy over confidence; for numbers the share of targets in intervals of each level."""
    return _reliability(run.registry.ready(model, version))


@router.post("/{model}/evaluate", summary="Evaluate on labelled rows", **_EVALUATE)
async def evaluate_model(request: Request, run: Run, model: Name) -> Response:
    """What predictions of these rows are worth: the document that `mcdrop evaluate` writes.

    All but `convergence`, which would take more samples than were asked for.
    """
    return await _evaluate(request, run, run.registry.ready(model))


@router.post(
    "/{model}/versions/{version}/evaluate",
    summary="Evaluate a version of a model on labelled rows",
    **_EVALUATE,
)
async def evaluate_version(request: Request, run: Run, model: Name, version: Number) -> Response:
    """What predictions of these rows are worth: the document that `mcdrop evaluate` writes.

    All but `convergence`, which would take more samples than were asked for.
    """
    return await _evaluate(request, run, run.registry.ready(model, version))


def _calibration(loaded: Loaded) -> CalibrationResponse:
    calibration = loaded.predictor.calibration
    return CalibrationResponse(
        model=loaded.name,
        version=loaded.version,
        calibrators=calibration.describe() if calibration else "",
        fitted_on=calibration.source if calibration else "",
        cases=calibration.cases if calibration else 0,
        evaluation=loaded.predictor.evaluation,
    )


def _reliability(loaded: Loaded) -> Response:
    found = loaded.predictor.evaluation
    if found is None:
        raise NotFoundError(
            f"model {loaded.name!r} version {loaded.version} carries no evaluation; "
            "`mcdrop evaluate --attach` puts one into it"
        )
    if found.reliability is not None:
        picture = charts.reliability(found.reliability, standalone=True)
    else:
        picture = charts.coverage(found.coverage, standalone=True)
    return Response(picture, media_type="image/svg+xml")


async def _evaluate(request: Request, run: Runtime, loaded: Loaded) -> Response:
    asked = await read_json(request, EvaluateRequest)
    query = make_query(
        run, loaded, from_rows(loaded, asked.inputs), samples=asked.samples, seed=asked.seed
    )
    if query.samples < 2 and isinstance(loaded.manifest.task, Regression | Gaussian):
        raise InvalidRequestError(
            "numbers are evaluated with 2 samples or more: the variance of a single one is unknown"
        )
    targets = read_targets(loaded.manifest, asked.targets)
    rows = len(next(iter(query.inputs.values())))
    if len(targets) != rows:
        raise InvalidRequestError(f"expected a target for each of {rows} rows; got {len(targets)}")
    if asked.groups is not None and len(asked.groups) != rows:
        raise InvalidRequestError(
            f"expected a group for each of {rows} rows; got {len(asked.groups)}"
        )

    found = await unless_gone(request, _evaluated(run, loaded, query, targets, asked.groups))
    model = found.model.model_copy(update={"name": loaded.name, "version": loaded.version})
    return JSON(found.model_copy(update={"model": model}).model_dump(mode="json"))


async def _evaluated(
    run: Runtime, loaded: Loaded, query: Query, targets: Tensor, groups: list[str] | None
) -> Evaluation:
    """Predict on the device, among the others; what it is worth is computed beside it."""
    ask: Ask[Prediction] = Ask(loaded, query.inputs, query.samples, query.seed, _as_it_is)
    timed = await run.scheduler.ask(ask)
    return await asyncio.to_thread(
        evaluate,
        Known(loaded, timed.value),
        [Labelled(query.inputs, targets, groups)],
        source="the request",
        samples=query.samples,
        seed=query.seed,
        convergence=None,  # which would take further samples, beyond those that were asked for
    )


def _as_it_is(prediction: Prediction) -> Prediction:
    return prediction
