"""The model repository extension of the Open Inference Protocol, as Triton has it.

No route here asks who is calling: the access middleware lets only holders of an admin key through
to `/v2/repository`, and nobody where there is none.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from service.inference import Runtime, runtime
from service.oip import repository as oip
from service.openapi import protocol_errors, request_body
from service.repository.schemas import Done, IndexEntry, IndexRequest, LoadRequest, UnloadRequest
from service.routes.models import Name
from service.wire.bodies import read_json

router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"])

Run = Annotated[Runtime, Depends(runtime)]
M = TypeVar("M", bound=BaseModel)


def _document(summary: str, model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    examples = {"usual": {"summary": "As clients send it", "value": example}}
    body = request_body(model, examples)
    body["requestBody"]["required"] = False
    return {"summary": summary, "responses": protocol_errors(), "openapi_extra": body}


@router.post("/index", **_document("List the repository", IndexRequest, {"ready": True}))
async def repository_index(request: Request, run: Run) -> list[IndexEntry]:
    """Every version of every model, also those that are not served, with the reason."""
    asked = await _read(request, IndexRequest)
    return oip.list_versions(run, ready=asked.ready)


@router.post("/models/{model}/load", **_document("Load a model", LoadRequest, {}))
async def load_model(request: Request, run: Run, model: Name) -> Done:
    """Load what is new, changed, failed or unloaded of a model; answers when done.

    400 if the version that is to answer could not be loaded; what answered before goes on. A model
    comes from the repository and nowhere else: neither files nor a configuration are taken.
    """
    asked = await _read(request, LoadRequest)
    await oip.load_model(run, model, asked.parameters)
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
    oip.unload_model(run, model, asked.parameters)
    return Done()


async def _read(request: Request, model: type[M]) -> M:
    if not await request.body():  # the body is optional; starlette keeps it for a second reader
        return model()
    return await read_json(request, model)
