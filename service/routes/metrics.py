"""What Prometheus reads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from service.inference import Runtime, runtime
from service.telemetry.exposition import render

router = APIRouter(tags=["health"])

Run = Annotated[Runtime, Depends(runtime)]

_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The metrics, as text.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    }
}


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_TEXT)
def metrics(request: Request, run: Run) -> Response:
    """Counters, gauges and histograms, in Prometheus' text format or, by `Accept`, OpenMetrics."""
    # not a coroutine: it is rendered on a thread, away from the event loop
    content, kind = render(run.telemetry.registry, request.headers.get("accept", ""))
    return Response(content, headers={"content-type": kind})
