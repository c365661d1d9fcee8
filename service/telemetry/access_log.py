"""A record of each request: in the log, and in the histogram of latencies."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import CLIENT_GONE
from service.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

_LONGEST = 1024  # of a path; what is beyond is nobody's route


class AccessLog:
    """ASGI middleware that writes a line for each request when its answer is complete.

    Health checks and scrapes, several a minute, are left out while they succeed. A query is never
    written, nor a header: they may hold secrets.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and watch what is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent, began = CLIENT_GONE, 0, time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - began
            # a template and never a path: there are as many series as there are routes
            route = getattr(scope.get("route"), "path", "other")
            self._telemetry.http(route, status, seconds)
            if status != 200 or not _is_probe(scope["path"]):
                _write_request(scope, status, sent, seconds)


def _is_probe(path: str) -> bool:
    return path == "/metrics" or "/health/" in path


def write_call(method: str, code: str, seconds: float, client: str, key: str | None) -> None:
    """Write the line of a gRPC call; `code` is the name of its status."""
    fields = {
        "method": quote(method)[:_LONGEST],
        "code": code,
        "duration_ms": round(seconds * 1e3, 3),
        "client": client,
    }
    _write('%(client)s "%(method)s" %(code)s, %(duration_ms).1f ms', fields, key)


def _write_request(scope: Scope, status: int, sent: int, seconds: float) -> None:
    host, port = scope.get("client") or ("-", 0)
    fields = {
        "method": scope["method"],
        # quoted again, as a decoded path may hold line breaks
        "path": quote(scope["path"])[:_LONGEST],
        "status": status,
        "duration_ms": round(seconds * 1e3, 3),
        "bytes": sent,
        "client": f"{host}:{port}",
    }
    line = '%(client)s "%(method)s %(path)s" %(status)d, %(bytes)d bytes, %(duration_ms).1f ms'
    _write(line, fields, scope.get("state", {}).get("key"))  # the gate's


def _write(line: str, fields: dict[str, Any], key: str | None) -> None:
    if key is not None:
        fields["key"] = key
    log.info(line, fields, extra={"fields": fields})
