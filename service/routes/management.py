"""The repository, for operators: what is on disk and in memory, rolling back, looking anew.

No route here asks who is calling: the access middleware lets only holders of an admin key through
to `/v1/repository`, and nobody where there is none.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from service.inference import Runtime, runtime
from service.openapi import problems, request_body
from service.registry import Version
from service.repository.passes import Changes, Key
from service.repository.schemas import (
    FailedVersion,
    PinRequest,
    PinState,
    RepositoryChanges,
    RepositoryState,
    StoredModel,
    StoredVersion,
    VersionName,
)
from service.routes.models import Name
from service.wire.bodies import read_json

router = APIRouter(prefix="/v1/repository", tags=["repository"])

Run = Annotated[Runtime, Depends(runtime)]

_EXAMPLES: dict[str, Any] = {
    "roll back": {"summary": "Let version 1 answer again", "value": {"version": 1}}
}


@router.get("", summary="Show the repository")
async def get_repository(run: Run) -> RepositoryState:
    """Every version of every model: its state, since when, why it is not served, and the pins."""
    registry = run.registry
    return RepositoryState(
        models=[
            StoredModel(
                name=name,
                version=registry.find(name).number,
                pinned=registry.pinned(name),
                versions=[_version(version) for version in registry.versions(name)],
            )
            for name in registry.names()
        ],
        versions=run.settings.versions,
        watch_seconds=run.settings.watch_seconds,
        looked_at=run.repository.looked_at,
        problem=run.repository.problem,
    )


@router.post("/reload", summary="Look at the disk now", responses=problems(429, 503))
async def reload_repository(run: Run) -> RepositoryChanges:
    """Load what is new or changed, try again what failed, drop what is gone; answers when done.

    What an operator unloaded stays unloaded. A version that fails takes nothing away: what
    answered before goes on.
    """
    return _changes(await run.repository.reload())


@router.post(
    "/{model}/pin",
    summary="Pin a version",
    responses=problems(400, 404, 409, 422, 429, 503),
    openapi_extra=request_body(PinRequest, _EXAMPLES),
)
async def pin_version(request: Request, run: Run, model: Name) -> PinState:
    """Let this version answer when none is named, until unpinned; newer ones are still loaded.

    At once if it is loaded; if not, it is loaded first. Written to the file `pin` in the model's
    folder, which may also be written by hand; the newest change counts.
    """
    asked = await read_json(request, PinRequest)
    return _pin(run, model, on_disk=await run.repository.pin(model, asked.version))


@router.delete("/{model}/pin", summary="Unpin a model", responses=problems(404, 422))
async def unpin_model(run: Run, model: Name) -> PinState:
    """Let the newest version that is ready answer again when none is named."""
    return _pin(run, model, on_disk=await run.repository.unpin(model))


def _version(version: Version) -> StoredVersion:
    return StoredVersion(
        version=version.number,
        state=version.state,
        reason=version.reason,
        loaded_at=version.loaded_at,
    )


def _pin(run: Runtime, model: str, *, on_disk: bool) -> PinState:
    version, pinned = run.registry.find(model).number, run.registry.pinned(model)
    return PinState(model=model, version=version, pinned=pinned, on_disk=on_disk)


def _changes(changes: Changes) -> RepositoryChanges:
    def names(keys: list[Key]) -> list[VersionName]:
        return [VersionName(model=name, version=number) for name, number in keys]

    return RepositoryChanges(
        loaded=names(changes.loaded),
        reloaded=names(changes.reloaded),
        unloaded=names(changes.unloaded),
        failed=[
            FailedVersion(model=name, version=number, reason=reason)
            for (name, number), reason in changes.failed.items()
        ],
    )
