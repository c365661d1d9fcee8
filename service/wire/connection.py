"""A connection whose requests have an end, also where they are no body."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

MOST = 1 << 16  # bytes of a head, of trailers, or of chunk sizes in a row; h11 takes as many
_SAID = b"a request's head may have %d bytes; send less in its path and headers" % MOST
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_SAID), _SAID)
)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which gathers headers and trailers while they come, with a limit.

    Bodies have a limit of their own, `service.wire.bodies.BodyLimit`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gathered = 0  # bytes since the last one of a body, or of a request

    def data_received(self, data: bytes) -> None:
        """Take what came, or hang up when too much of it is no body."""
        self._gathered += len(data)
        super().data_received(data)
        if self._gathered > MOST:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Pass a request on, unless its head came at once and is too large."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MOST:
            self._refuse()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Begin to count anew."""
        self._gathered = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        self._gathered = 0
        if not self.transport.is_closing():
            super().on_message_complete()

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        log.warning("a request has a head of more than %d bytes: it is refused", MOST)
        # what is not answered yet would take this for its answer
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_ANSWER)
        self.transport.close()
