"""Request and response bodies: the size limit, reading JSON, writing JSON with arrays in it."""

from __future__ import annotations

from types import NoneType
from typing import TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    MalformedBodyError,
    error_response,
)

M = TypeVar("M", bound=BaseModel)


class BodyLimit:
    """ASGI middleware that refuses bodies over `limit` bytes with 413.

    A declared length is refused before anything is read. Without one (chunked transfer) the bytes
    are counted as they come, and the error surfaces where the body is awaited.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            error = self._error(f"{int(declared)} bytes")
            response = error_response(
                scope["path"], error.status, str(error), headers=error.headers
            )
            await response(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._error("more")
            return message

        await self._app(scope, count, send)

    def _error(self, got: str) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"a request body may have {self._limit} bytes, this one has {got}; "
            "send fewer rows at a time, or raise MCDROP_MAX_BODY_BYTES"
        )


async def read_json(request: Request, model: type[M]) -> M:
    """Read the body as JSON, whatever its content type says, and check it strictly against `model`.

    Raises:
        MalformedBodyError: the body is not JSON.
        InvalidRequestError: the JSON is not what `model` describes.
    """
    return parse_json(await request.body(), model)


def parse_json(body: bytes, model: type[M]) -> M:
    """Read bytes as `read_json` reads a body."""
    if not body:
        raise MalformedBodyError("the body is empty; send JSON")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; NaN and Infinity are not JSON" if b"NaN" in body or b"Infinity" in body else ""
        raise MalformedBodyError(f"the body is not JSON: {error}{hint}") from None
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        offered = [
            name for name, field in model.model_fields.items() if field.annotation is not NoneType
        ]
        raise InvalidRequestError.from_validation(error, offered) from None


class JSON(Response):
    """JSON by orjson: NumPy arrays without a detour over lists, NaN and infinity as null."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialise; arrays must be C-contiguous."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
