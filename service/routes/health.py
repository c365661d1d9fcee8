"""Health of the server, for probes and load balancers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from service.inference import Runtime, runtime
from service.schemas import Health

router = APIRouter(prefix="/health", tags=["health"])

_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Health, "description": "Loading, stopping, or no model could be loaded."}
}


@router.get("/live", summary="Is the server alive?")
async def live() -> Health:
    """200 as long as the server answers at all."""
    return Health(status="live")


@router.get("/ready", summary="Can the server predict?", responses=_NOT_READY)
async def ready(run: Annotated[Runtime, Depends(runtime)], response: Response) -> Health:
    """200 once every model was tried and one of them is ready; 503 before, and while stopping."""
    status = run.registry.state() if run.scheduler.accepting else "stopping"
    if status != "ready":
        response.status_code = 503
    return Health(status=status)
