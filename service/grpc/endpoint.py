"""The gRPC port: opened and closed with the application, in the same event loop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from service.access.access import Access
from service.errors import StartError
from service.inference import Runtime
from service.settings import Settings

log = logging.getLogger(__name__)


def require_grpc(settings: Settings) -> None:
    """Check that gRPC can be served, if it is to be.

    Raises:
        StartError: a package is missing.
    """
    if settings.grpc_port is None:
        return
    for module, package in (("grpc", "grpcio"), ("google.protobuf", "protobuf")):
        if not _installed(module):
            raise StartError(
                f"MCDROP_GRPC_PORT is set, and gRPC needs {package}, which is not installed: "
                "pip install 'mcdrop[grpc]', or unset it"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """An open port."""

    port: int
    _server: Any
    _grace: int

    async def stop(self) -> None:
        """Take no more calls, and give those that have begun their time; may be called again."""
        await self._server.stop(self._grace)


@contextlib.asynccontextmanager
async def serving(run: Runtime, access: Access) -> AsyncIterator[Endpoint | None]:
    """Serve gRPC where a port is set; `Endpoint.stop` in the end.

    Raises:
        StartError: a package is missing, or the port is not to be had.
    """
    settings = run.settings
    if settings.grpc_port is None:
        yield None
        return
    require_grpc(settings)
    endpoint = await _open(run, access, settings.grpc_port)
    try:
        yield endpoint
    finally:
        await endpoint.stop()


async def _open(run: Runtime, access: Access, port: int) -> Endpoint:
    import grpc.aio

    from service.grpc.handlers import SERVICE, Service

    settings = run.settings
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.so_reuseport", 0),  # or a second server would share the port unnoticed
        ]
    )
    server.add_generic_rpc_handlers((Service(run, access),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise StartError(
            f"cannot listen on {host}:{port} for gRPC; set MCDROP_GRPC_PORT to a port that is free"
        ) from None
    await server.start()
    log.info("listening on grpc://%s:%d (%s)", host, bound, SERVICE)
    return Endpoint(bound, server, settings.drain_seconds)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is not there; it is blocked
        return False
