"""What both transports do with the model repository, as Triton has it.

Nothing here asks who is calling: the transports let only holders of an admin key through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.errors import InvalidRequestError
from service.inference import Runtime
from service.registry import State, Version
from service.repository.schemas import IndexEntry

# Triton knows no state for what is not to be loaded
_STATES: dict[State, Any] = {
    "ready": "READY",
    "loading": "LOADING",
    "unavailable": "UNAVAILABLE",
    "unloaded": "UNAVAILABLE",
}


def list_versions(run: Runtime, *, ready: bool) -> list[IndexEntry]:
    """Every version of every model, with the reason where it is not served; or only what is."""
    return [
        _entry(version)
        for name in run.registry.names()
        for version in run.registry.versions(name)
        if not ready or version.state == "ready"
    ]


async def load_model(run: Runtime, name: str, parameters: Mapping[str, Any]) -> None:
    """Load what is new, changed, failed or unloaded of a model.

    Raises:
        InvalidRequestError: there are parameters; files and configurations are not taken.
        NotFoundError: there is no model of this name.
        ConflictError: the version that is to answer could not be loaded.
        NotReadyError: the server is stopping, or the models folder cannot be read.
        QueueFullError: too many are waiting for their turn.
    """
    if parameters:
        given = next(iter(parameters))
        raise InvalidRequestError(
            f"load takes no parameters, got {given[:80]!r}: models come from the server's "
            "repository, files and configurations are not taken from requests"
        )
    await run.repository.load(name)


def unload_model(run: Runtime, name: str, parameters: Mapping[str, Any]) -> None:
    """Unload all versions of a model; those requests that have begun are finished.

    Raises:
        InvalidRequestError: there are parameters other than `unload_dependents`.
        NotFoundError: there is no model of this name.
    """
    unknown = sorted(set(parameters) - {"unload_dependents"})
    if unknown:
        raise InvalidRequestError(
            f"unload takes no parameter {unknown[0][:80]!r}, only unload_dependents"
        )
    run.repository.unload(name)


def _entry(version: Version) -> IndexEntry:
    return IndexEntry(
        name=version.name,
        version=str(version.number),
        state=_STATES[version.state],
        reason=version.reason or "",
    )
