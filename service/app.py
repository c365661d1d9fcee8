"""The ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from service.access import Access
from service.bodies import BodyLimit
from service.compression import Compress, Decompress
from service.devices import resolve_devices
from service.errors import install_handlers
from service.gate import Gate
from service.grpc.endpoint import serving
from service.heads import HeadAsGet
from service.inference import Runtime
from service.openapi import DESCRIPTION, TAGS, document_keys
from service.registry import Registry, scan
from service.routes import routers
from service.scheduler import Scheduler
from service.settings import Settings
from service.stopping import AnswerCancelled


def create_app(settings: Settings) -> FastAPI:
    """Build the application; models are loaded when it starts, in the background.

    Until they are, `/health/live` answers 200 and `/health/ready` 503.

    Raises (when the application starts):
        StartError: the models folder holds no model, there is no such device, or gRPC cannot be
            served.
        SettingsError: the keys file is not sound.

    Example:
        >>> app = create_app(Settings(models="models"))
        >>> app.title
        'mcdrop'
    """
    access = Access(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        registry = Registry(scan(settings.models))
        scheduler = Scheduler(
            resolve_devices(settings.device),
            capacity=settings.queue_size,
            step_rows=settings.step_rows,
            threads=settings.threads,
        )
        app.state.runtime = Runtime(settings, registry, scheduler)
        loading = asyncio.create_task(
            registry.load(scheduler, memory_budget=settings.memory_budget)
        )
        app.state.access = access
        try:
            async with access.running(), serving(app.state.runtime, access) as app.state.grpc:
                yield
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
            await scheduler.close()

    app = FastAPI(
        title="mcdrop",
        version=version("mcdrop"),
        summary="Predictions with uncertainty by Monte Carlo dropout",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
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


def _operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: the function's name."""
    return route.name
