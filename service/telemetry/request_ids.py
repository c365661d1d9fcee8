"""Which request this is: a name for it, in its answer and in all that is logged about it."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.ids import new_id

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True, eq=False)
class Current:
    """The request that is being answered; what it is about is filled in when that is known."""

    id: str
    model: str | None = None
    version: int | None = None
    trace_id: str | None = None


current: ContextVar[Current | None] = ContextVar("current", default=None)


def begin_request(given: str) -> str:
    """Make a request the current one of its task, and give it an id.

    Args:
        given: the id that came with it; taken if that is sane: up to 128 letters, digits, dots,
            dashes, underscores.

    Returns:
        Its id, which the answer is to carry.
    """
    request_id = given if _SANE.fullmatch(given) else new_id()
    # never reset: a request has a task of its own, in which the server logs what escapes
    current.set(Current(request_id))
    return request_id


class RequestIds:
    """ASGI middleware that gives each request an id, and answers with it as `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as the current one, and put its id on the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = begin_request(Headers(scope=scope).get("x-request-id", ""))

        async def tag(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, tag)
