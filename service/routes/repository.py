"""The model repository extension of the Open Inference Protocol, as Triton has it.

No route here asks who is calling: the access middleware lets only holders of an admin key through
to `/v2/repository`, and nobody where there is none.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from service.errors import InvalidRequestError
from service.inference import Runtime, runtime
from service.openapi import protocol_errors, request_body
from service.registry import State, Version
from service.repository.schemas import Done, IndexEntry, IndexRequest, LoadRequest, UnloadRequest
from service.routes.models import Name
from service.wire.bodies import read_json

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])

Run = Annotated[Runtime, Depends(runtime)]
M = TypeVar("M", bound=BaseModel)

# Triton knows no state for what is not to be loaded
_STATES: dict[State, Any] = {
    "ready": "READY",
    "loading": "LOADING",
    "unavailable": "UNAVAILABLE",
    "unloaded": "UNAVAILABLE",
}


def _document(summary: str, model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    examples = {"usual": {"summary": "As clients send it", "value": example}}
    body = request_body(model, examples)
    body["requestBody"]["required"] = False
    return {"summary": summary, "responses": protocol_errors(), "openapi_extra": body}


@router.post("/index", **_document("List the repository", IndexRequest, {"ready": True}))
async def repository_index(request: Request, run: Run) -> list[IndexEntry]:
    """Every version of every model, also those that are not served, with the reason."""
    asked = await _read(request, IndexRequest)
    return [
        _entry(version)
        for name in run.registry.names()
        for version in run.registry.versions(name)
        if not asked.ready or version.state == "ready"
    ]


@router.post("/models/{model}/load", **_document("Load a model", LoadRequest, {}))
async def load_model(request: Request, run: Run, model: Name) -> Done:
    """Load what is new, changed, failed or unloaded of a model; answers when done.

    400 if the version that is to answer could not be loaded; what answered before goes on. A model
    comes from the repository and nowhere else: neither files nor a configuration are taken.
    """
    asked = await _read(request, LoadRequest)
    if asked.parameters:
        name = next(iter(asked.parameters))
        raise InvalidRequestError(
            f"load takes no parameters, got {name[:80]!r}: models come from the server's "
            "repository, files and configurations are not taken from requests"
        )
    await run.repository.load(model)
    return Done()


@router.post(
    "/models/{model}/unload",
    **_document("Unload a model", UnloadRequest, {"parameters": {"unload_dependents": False}}),
)
async def unload_model(request: Request, run: Run, model: Name) -> Done:
    """Unload all versions of a model; answers when it takes no more requests.

    Those that have begun are finished. It stays unloaded until `load`, or until its files change.
    """
    asked = await _read(request, UnloadRequest)
    unknown = sorted(set(asked.parameters) - {"unload_dependents"})
    if unknown:
        raise InvalidRequestError(
            f"unload takes no parameter {unknown[0][:80]!r}, only unload_dependents"
        )
    run.repository.unload(model)
    return Done()


async def _read(request: Request, model: type[M]) -> M:
    if not await request.body():  # the body is optional; starlette keeps it for a second reader
        return model()
    return await read_json(request, model)


def _entry(version: Version) -> IndexEntry:
    return IndexEntry(
        name=version.name,
        version=str(version.number),
        state=_STATES[version.state],
        reason=version.reason or "",
    )
