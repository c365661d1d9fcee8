"""Compressed bodies, both ways: gzip and deflate (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLargeError, EncodingError, MalformedBodyError
from service.wire.preferences import weigh

# zlib's window bits. HTTP's deflate is the zlib format (RFC 1950), not a bare deflate stream.
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_BITE = 1 << 16  # compressed bytes looked at in one go
_PIECE = 1 << 18  # decompressed bytes made in one go
_SMALL = 1 << 14  # up to which the event loop does it itself
_WORTHWHILE = 1024  # smaller answers gain nothing


class Decompress:
    """ASGI middleware that shows the application a compressed request body as it was before.

    The body is decompressed while it comes, and no further than `limit` bytes: what would be more
    is never made. An error surfaces where the body is awaited.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a `receive` that decompresses and without the header."""
        codings = _codings(scope) if scope["type"] == "http" else []
        if not codings:
            await self._app(scope, receive, send)
            return
        inflated = _inflated(codings, receive, self._limit)

        async def decompress() -> Message:
            message = await anext(inflated, None)
            return await receive() if message is None else message  # None: the body has been read

        # in place: middleware further out reads what routing puts into the scope
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if name not in {b"content-encoding", b"content-length"}
        ]
        await self._app(scope, decompress, send)


class Compress:
    """ASGI middleware that compresses answers for callers who accept it.

    Whole answers only: what is sent in parts, such as events, is passed on as it comes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a `send` that keeps an answer's start until it is whole."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        coding = choose_coding(Headers(scope=scope).getlist("accept-encoding"))
        start: Message = {}

        async def compress(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if not start:
                await send(message)
                return
            if message["type"] == "http.response.body" and _is_worthwhile(start, message):
                headers = MutableHeaders(raw=list(start["headers"]))
                headers.add_vary_header("Accept-Encoding")
                if coding is not None:
                    message = {**message, "body": await _deflated(message["body"], coding)}
                    headers["content-encoding"] = coding
                    headers["content-length"] = str(len(message["body"]))
                start = {**start, "headers": headers.raw}
            await send(start)
            start = {}
            await send(message)

        await self._app(scope, receive, compress)


def choose_coding(accepted: Iterable[str]) -> str | None:
    """What `Accept-Encoding` headers like best of gzip and deflate; None to leave bodies alone.

    Example:
        >>> choose_coding(["deflate;q=0.5, gzip"])
        'gzip'
        >>> choose_coding(["gzip;q=0.2, identity;q=0.8"]) is None
        True
    """
    weights = {name.removeprefix("x-"): weight for name, weight in weigh(accepted).items()}
    offered = {coding: weights.get(coding, weights.get("*", 0.0)) for coding in _WINDOWS}
    best = max(offered, key=offered.__getitem__)  # the first of equals
    if offered[best] <= 0 or offered[best] < weights.get("identity", 0.0):
        return None
    return best


def _codings(scope: Scope) -> list[str]:
    """The codings of a request's body, in the order in which they were applied."""
    said = ",".join(Headers(scope=scope).getlist("content-encoding")).lower()
    return [name for part in said.split(",") if (name := part.strip()) not in {"", "identity"}]


async def _inflated(codings: list[str], receive: Receive, limit: int) -> AsyncIterator[Message]:
    """The messages of a request, up to the end of its body."""
    coding = codings[0].removeprefix("x-")
    if len(codings) > 1 or coding not in _WINDOWS:
        raise EncodingError(
            f"content-encoding {', '.join(codings)!r} is not offered; send the body as it is, or "
            "compressed once, with gzip or deflate"
        )
    inflater = _Inflater(coding, limit)
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            yield message
            return
        more = message.get("more_body", False)
        async for piece in inflater.pieces(message.get("body", b"")):
            yield {"type": "http.request", "body": piece, "more_body": True}
    inflater.finish()
    yield {"type": "http.request", "body": b"", "more_body": False}


class _Inflater:
    """Decompresses a body of one coding, and never makes more than a byte over the limit."""

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = coding
        self._limit = limit
        self._made = 0
        self._stream = zlib.decompressobj(_WINDOWS[coding])

    async def pieces(self, body: bytes) -> AsyncIterator[bytes]:
        """Decompress the next part of the body, some of it at a time."""
        at_once = len(body) <= _SMALL
        for begin in range(0, len(body), _BITE):
            bite = body[begin : begin + _BITE]
            while bite:
                yield self._step(bite) if at_once else await asyncio.to_thread(self._step, bite)
                bite = self._stream.unconsumed_tail
                at_once = False  # a little that becomes much

    def _step(self, bite: bytes) -> bytes:
        room = self._limit - self._made + 1
        ended = self._stream.eof
        try:
            piece = b"" if ended else self._stream.decompress(bite, min(_PIECE, room))
        except zlib.error:
            raise MalformedBodyError(f"the body is not {self._coding} data") from None
        if ended or self._stream.unused_data:
            raise MalformedBodyError(f"the body goes on after the end of its {self._coding} data")
        self._made += len(piece)
        if self._made > self._limit:
            raise BodyTooLargeError(
                f"a request body may have {self._limit} bytes, this one has more when it is "
                "decompressed; send fewer rows at a time, or raise MCDROP_MAX_BODY_BYTES"
            )
        return piece

    def finish(self) -> None:
        """Check that the compressed data were whole."""
        if not self._stream.eof:
            raise MalformedBodyError(f"the body's {self._coding} data end too early")


def _is_worthwhile(start: Message, message: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return (
        not message.get("more_body", False)
        and len(message.get("body", b"")) >= _WORTHWHILE
        and "content-encoding" not in headers
        and not headers.get("content-type", "").startswith("text/event-stream")
    )


async def _deflated(body: bytes, coding: str) -> bytes:
    # level 1: numbers shrink little further, and a server has better things to compute
    deflater = zlib.compressobj(1, zlib.DEFLATED, _WINDOWS[coding])

    def work() -> bytes:
        return deflater.compress(body) + deflater.flush()

    return work() if len(body) <= _SMALL else await asyncio.to_thread(work)
