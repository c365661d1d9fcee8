"""Keys and rates over HTTP: which path needs what, where the key is, how a refusal is said."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.access import Access
from service.access.keys import KeyScope
from service.errors import RequestError, error_response

_OPEN = frozenset({"/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_HEALTH = ("/health/", "/v2/health/")
_MANAGEMENT = ("/v1/repository/", "/v2/repository/")
_METRICS = "/metrics"
_PREDICTION = re.compile(
    r"/v[12]/models/[^/]+(/versions/[^/]+)?/(predict|predict/stream|evaluate|infer)"
)


def scope_of(path: str, *, metrics: bool) -> KeyScope | None:
    """What a path needs; None for those that are open to all. What is not known needs a key.

    Args:
        path: without the prefix that the application is mounted under.
        metrics: whether a key is asked for at `/metrics`.

    Example:
        >>> scope_of("/v1/models", metrics=False), scope_of("/health/live", metrics=False)
        (<KeyScope.READ: 'read'>, None)
    """
    if path in _OPEN or path.startswith(_HEALTH) or (path == _METRICS and not metrics):
        return None
    return KeyScope.ADMIN if path.startswith(_MANAGEMENT) else KeyScope.READ


class Gate:
    """ASGI middleware that lets requests pass which `Access` allows, and answers the others.

    What passes has the name of its key in `scope["state"]["key"]`.
    """

    def __init__(self, app: ASGIApp, access: Access, *, metrics: bool) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403 or 429 before its body is read."""
        if scope["type"] == "http":
            path = _path(scope)
            try:
                self._admit(scope, path)
            except RequestError as error:
                response = error_response(path, error.status, str(error), headers=error.headers)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope, path: str) -> None:
        needed = scope_of(path, metrics=self._metrics)
        if needed is None:
            return
        key = self._access.check(presented(dict(scope["headers"])), needed)
        scope.setdefault("state", {})["key"] = key.name
        if scope["method"] == "POST" and _PREDICTION.fullmatch(path):
            client = scope.get("client")
            self._access.spend(key, client[0] if client else "")


def _path(scope: Scope) -> str:
    """The path that the router sees: without the prefix that the application is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def presented(headers: Mapping[bytes, bytes]) -> str | None:
    """The key that a request carries; a bearer token goes before `X-API-Key`."""
    kind, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    if kind.lower() != b"bearer":
        token = headers.get(b"x-api-key", b"")
    return token.strip().decode("latin-1") or None
