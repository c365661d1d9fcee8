"""Native prediction as it settles: server-sent events."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from service.batching.ask import Timed
from service.errors import RequestError, problem
from service.inference import (
    Array,
    Runtime,
    from_rows,
    require_room,
    runtime,
    streamed,
    unless_gone,
)
from service.loaded import Loaded
from service.openapi import problems, request_body
from service.questions import Question, ask_question
from service.routes.models import Name, Number
from service.routes.predict import EXAMPLES
from service.schemas import PredictRequest
from service.wire.bodies import read_json

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/models", tags=["predict"])

Run = Annotated[Runtime, Depends(runtime)]

_EVENTS = "text/event-stream"
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "enum": ["partial", "final", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_DOCUMENT: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": "Events `partial`, each with the answer that `predict` would give with "
            "the samples taken so far, then one event `final`, with its answer. Where they are "
            "read more slowly than they come, some are left out. Should the server fail in "
            "between, the last event is `error`, with a problem (RFC 9457).",
            "content": {_EVENTS: {"schema": _EVENT}},
        },
        **problems(400, 404, 413, 415, 422, 429, 503),
    },
    "openapi_extra": request_body(PredictRequest, EXAMPLES),
}
# no cache, and no proxy, is to keep events back
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@router.post("/{model}/predict/stream", summary="Predict, and watch it settle", **_DOCUMENT)
async def predict_stream(request: Request, run: Run, model: Name) -> Response:
    """Partial predictions after each block of 16 samples, by the version that answers."""
    return await _stream(request, run, run.registry.ready(model))


@router.post(
    "/{model}/versions/{version}/predict/stream",
    summary="Predict with a given version of a model, and watch it settle",
    **_DOCUMENT,
)
async def predict_version_stream(
    request: Request, run: Run, model: Name, version: Number
) -> Response:
    """Partial predictions after each block of 16 samples, by this version of the model."""
    return await _stream(request, run, run.registry.ready(model, version))


async def _stream(request: Request, run: Runtime, loaded: Loaded) -> Response:
    require_room(run, loaded)
    asked = await read_json(request, PredictRequest)
    question = ask_question(run, loaded, asked, from_rows(loaded, asked.inputs))
    answers = streamed(run, loaded, question.query)
    # an error before the first answer has a status of its own
    try:
        first = await unless_gone(request, anext(answers))
    except BaseException:
        await answers.aclose()
        raise
    return StreamingResponse(_events(question, first, answers), 200, _HEADERS, _EVENTS)


async def _events(
    question: Question,
    first: tuple[bool, Timed[dict[str, Array]]],
    answers: AsyncIterator[tuple[bool, Timed[dict[str, Array]]]],
) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(answers):  # type: ignore[type-var]  # it is a generator
        last, timed = first
        yield _event("final" if last else "partial", question.answer(timed))
        try:
            async for last, timed in answers:
                yield _event("final" if last else "partial", question.answer(timed))
        except RequestError as error:
            yield _event("error", problem(error.status, str(error)))
        except Exception:
            log.exception("a stream failed")
            detail = "the server failed on this request; its log says more"
            yield _event("error", problem(500, detail))


def _event(name: str, data: dict[str, Any]) -> bytes:
    encoded = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encoded)
