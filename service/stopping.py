"""What a caller hears whose request outlasts the server's stop."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotReadyError, error_response


class AnswerCancelled:
    """ASGI middleware that answers 503 where a stop has cancelled the request.

    Nothing but the end of `MCDROP_DRAIN_SECONDS` cancels a request's task.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer in its place if it is cancelled before it has."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            if scope["type"] != "http" or begun:
                raise
            error = NotReadyError("the server stopped before this request was done")
            response = error_response(
                scope["path"], error.status, str(error), headers=error.headers
            )
            await response(scope, receive, send)
