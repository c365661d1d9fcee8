"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

from service.access.access import Access
from service.access.gate import Gate
from service.batching.devices import resolve_devices
from service.errors import NotFoundError, install_handlers
from service.grpc.endpoint import serving
from service.heads import HeadAsGet
from service.inference import Runtime
from service.openapi import DESCRIPTION, TAGS, document_keys
from service.registry import Registry
from service.repository.folders import scan
from service.repository.repository import Repository
from service.repository.watch import watch
from service.routes import routers
from service.scheduler import Scheduler
from service.settings import Settings
from service.stopping import AnswerCancelled
from service.telemetry.access_log import AccessLog
from service.telemetry.request_ids import RequestIds
from service.telemetry.telemetry import ModelState, Telemetry
from service.telemetry.tracing import open_tracing
from service.wire.bodies import BodyLimit
from service.wire.compression import Compress, Decompress

_UNTRACED: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class _Application(FastAPI):
    """FastAPI, and around all of its middleware what is to see every answer, a bug's too."""

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        return RequestIds(AccessLog(stack, self.state.telemetry))


def create_app(settings: Settings) -> FastAPI:
    """Build the application; models are loaded when it starts, in the background.

    Until they are, `/health/live` answers 200 and `/health/ready` 503.

    Raises:
        StartError: traces are asked for, and their packages are not installed.

    Raises (when the application starts):
        StartError: the models folder holds no model, there is no such device, or gRPC cannot be
            served.
        SettingsError: the keys file is not sound.

    Example:
        >>> app = create_app(Settings(models="models"))
        >>> app.title
        'mcdrop'
    """
    access = Access(settings.api_keys, rate=settings.rate)
    telemetry, tracing = Telemetry(), open_tracing(settings.otel_endpoint)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry = Registry(scan(settings.models))
        scheduler = Scheduler(
            resolve_devices(settings.device),
            capacity=settings.queue_size,
            step_rows=settings.step_rows,
            threads=settings.threads,
            observer=telemetry,
        )
        telemetry.watch(lambda: _states(registry))
        for device in scheduler.devices:
            telemetry.resident(str(device), 0)
        if tracing is not None:
            tracing.start()
        repository = Repository(registry, scheduler, settings)
        app.state.runtime = Runtime(settings, registry, scheduler, repository, telemetry, tracing)
        watching = asyncio.create_task(watch(repository, settings.watch_seconds))
        app.state.access = access
        try:
            async with access.running(), serving(app.state.runtime, access) as app.state.grpc:
                yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            await scheduler.close()
            if tracing is not None:
                await tracing.close(settings.drain_seconds)

    app = _Application(
        title="mcdrop",
        version=version("mcdrop"),
        summary="Predictions with uncertainty by Monte Carlo dropout",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        # switched off where nobody listens: it would look for a listener at each request
        telemetry=tracing.config() if tracing else _UNTRACED,
    )
    app.state.telemetry = telemetry
    app.add_middleware(Decompress, limit=settings.max_body_bytes)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    app.add_middleware(Gate, access=access, metrics=settings.metrics_key_required)
    app.add_middleware(Compress)
    app.add_middleware(AnswerCancelled)
    app.add_middleware(HeadAsGet)
    install_handlers(app)
    for router in routers:
        app.include_router(router)

    if settings.api_keys is not None:
        document_keys(app, metrics=settings.metrics_key_required)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


def _states(registry: Registry) -> Iterator[ModelState]:
    for name in registry.names():
        with contextlib.suppress(NotFoundError):  # gone in between
            for found in registry.versions(name):
                yield found.name, found.number, found.state


def _operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: the function's name."""
    return route.name
