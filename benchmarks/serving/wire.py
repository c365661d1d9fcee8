"""HTTP/1.1 over kept connections, by hand: a load generator shares its cores with the server."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from typing import NamedTuple, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STALE = 2.0  # seconds: servers close what has been idle for longer, some just as it is used


class Answer(NamedTuple):
    """What came back: the status, the head with its status line, the body."""

    status: int
    head: bytes
    body: bytes


class WireError(ConnectionError):
    """The connection ended, or what came is no answer that this client reads."""


def encode(path: str, body: bytes, headers: str = "") -> bytes:
    r"""A whole POST request, ready to be written.

    Example:
        >>> encode("/p", b"{}").split(b"\r\n")[0], encode("/p", b"{}")[-2:]
        (b'POST /p HTTP/1.1', b'{}')
    """
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._received = bytearray()
        self._head: tuple[int, int] | None = None  # where the body begins, and its length
        self.used = time.monotonic()
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's is none of asyncio's classes
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future is its answer, or fails with `WireError`."""
        assert self._answer is None
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def write(self, part: bytes) -> None:
        """Send bytes whose answer nobody waits for."""
        assert self._transport is not None
        self._transport.write(part)

    def abort(self) -> None:
        """Close at once, as a client that dies."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Gather an answer."""
        self._received += data
        if self._head is None and not self._read_head():
            return
        assert self._head is not None
        begin, length = self._head
        if len(self._received) < begin + length:
            return
        head, body = bytes(self._received[: begin - 4]), bytes(self._received[begin:])
        self._received.clear()
        self._head = None
        self.used = time.monotonic()
        self.open = self.open and _CLOSE.search(head) is None
        answer, self._answer = self._answer, None
        if answer is None or len(body) != length:
            self.abort()  # bytes that nobody asked for
        if answer is not None and not answer.done():
            answer.set_result(Answer(int(head[9:12]), head, body[:length]))

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        found = _LENGTH.search(self._received, 0, end)
        if found is None:
            self._fail("an answer without content-length, which this client does not read")
            self.abort()
            return False
        self._head = end + 4, int(found[1])
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        self.open = False
        self._fail(f"closed before an answer came: {exc or 'end of stream'}")

    def _fail(self, why: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(WireError(why))


class Pool:
    """Kept connections to a port of this machine; more are opened as they are needed."""

    def __init__(self, port: int, most: int = 2000) -> None:
        self._port = port
        self._idle: deque[Connection] = deque()
        self._free = asyncio.Semaphore(most)

    async def ask(self, request: bytes, timeout: float) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            OSError: no connection, or no answer on it.
            TimeoutError: no answer in time; the connection is aborted.
        """
        async with asyncio.timeout(timeout), self._free:
            connection = await self._connection()
            try:
                answer = await connection.ask(request)
            except BaseException:
                connection.abort()
                raise
        if connection.open:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    async def hang_up(self, part: bytes, after: float) -> None:
        """Send bytes on a connection of their own and abort it after some seconds."""
        connection = await self._opened()
        connection.write(part)
        await asyncio.sleep(after)
        connection.abort()

    def close(self) -> None:
        """Abort what is idle."""
        while self._idle:
            self._idle.pop().abort()

    async def _connection(self) -> Connection:
        fresh = time.monotonic() - _STALE
        while self._idle:  # the latest first; those before it have been idle for longer
            connection = self._idle.pop()
            if connection.open and connection.used > fresh:
                return connection
            connection.abort()
        return await self._opened()

    async def _opened(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        return connection
