"""How a gRPC call is answered: let in, named, recorded and traced as a request over HTTP is."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import methodcaller
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from mcdrop.errors import InputError
from service.access.access import Access
from service.access.gate import presented
from service.access.keys import KeyScope
from service.errors import DeadlineError, RequestError, UnimplementedError
from service.telemetry.access_log import write_call
from service.telemetry.request_ids import begin_request
from service.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A method that callers may name.

    Attributes:
        name: as they call it, `/package.Service/Method`.
        handle: gives the answer to a message as it travelled.
        scope: what a caller's key must allow; None for health, which is open to all, and neither
            traced nor, while it succeeds, recorded.
        spends: whether a call counts as a prediction.
        known: whether there is such a method.
    """

    name: str
    handle: Callable[[bytes], Awaitable[Any]]
    scope: KeyScope | None = KeyScope.READ
    spends: bool = False
    known: bool = True


@dataclass(slots=True, eq=False)
class _Outcome:
    """What came of a call; without a code the caller went away first."""

    code: grpc.StatusCode | None = None
    key: str | None = None


class Calls:
    """Answers calls as `service.access.gate` and the middleware around it answer HTTP."""

    def __init__(self, access: Access, tracing: Tracing | None) -> None:
        self._access = access
        self._tracing = tracing

    def handler(self, method: Method) -> Any:
        """What gRPC calls for a method."""

        async def answer(request: bytes, context: Any) -> Any:
            return await self._answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, response_serializer=methodcaller("SerializeToString")
        )

    def refuser(self, name: str, known: str) -> Any:
        """What gRPC calls where there is no such method; it waits for no message."""

        async def handle(request: bytes) -> Any:  # noqa: ARG001
            raise UnimplementedError(f"there is no method {name!r:.200}; there are: {known}")

        method = Method(name, handle, known=False)

        async def answer(requests: Any, context: Any) -> None:  # noqa: ARG001
            await self._answer(method, b"", context)

        return grpc.stream_stream_rpc_method_handler(answer)

    async def _answer(self, method: Method, request: bytes, context: Any) -> Any:
        metadata = _metadata(context)
        request_id = begin_request(metadata.get("x-request-id", ""))
        with self._watched(method, context, metadata) as outcome:
            # not caught below: it fails where the caller is gone, and gRPC knows that
            await context.send_initial_metadata((("x-request-id", request_id),))
            try:
                self._admit(method, metadata, context.peer(), outcome)
                answer = await method.handle(request)
            except Exception as error:  # noqa: BLE001 - said in gRPC's way, whatever it is
                outcome.code, said = _refusal(error)
                headers = getattr(error, "headers", {})
            else:
                outcome.code = grpc.StatusCode.OK
                return answer
            trailing = tuple(item for item in headers.items() if item[0] == "retry-after")
            return await context.abort(outcome.code, said, trailing)

    def _admit(
        self, method: Method, metadata: Mapping[str, str], peer: str, outcome: _Outcome
    ) -> None:
        if method.scope is None:
            return
        headers = {name.encode(): value.encode() for name, value in metadata.items()}
        key = self._access.check(presented(headers), method.scope)
        outcome.key = key.name
        if method.spends:
            self._access.spend(key, _address(peer))

    @contextlib.contextmanager
    def _watched(
        self, method: Method, context: Any, metadata: Mapping[str, str]
    ) -> Iterator[_Outcome]:
        """Trace and record a call, whichever way it ends."""
        is_probe = method.scope is None
        outcome, began, peer = _Outcome(), time.perf_counter(), context.peer()
        tracing = None if is_probe else self._tracing
        span: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if tracing is not None:
            span = tracing.call(method.name, metadata, known=method.known)
        with span:
            try:
                yield outcome
            finally:
                code = (outcome.code or _given_up(context)).name
                if tracing is not None:
                    tracing.call_ended(code)
                if code != "OK" or not is_probe:
                    seconds = time.perf_counter() - began
                    write_call(method.name, code, seconds, _client(peer), outcome.key)


def _refusal(error: Exception) -> tuple[grpc.StatusCode, str]:
    """An error's code, and what the caller is told."""
    match error:
        case DecodeError():
            return grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be read"
        case DeadlineError():
            return grpc.StatusCode.DEADLINE_EXCEEDED, str(error)
        case RequestError():
            return _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), str(error)
        case InputError():
            return grpc.StatusCode.INVALID_ARGUMENT, str(error)
    log.error("a gRPC request failed", exc_info=error)
    return grpc.StatusCode.INTERNAL, "the server failed on this request; its log says more"


def _given_up(context: Any) -> grpc.StatusCode:
    """Why a call ended without an answer."""
    if context.time_remaining() == 0:  # None without a deadline
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _metadata(context: Any) -> dict[str, str]:
    """What came with the call; values in binary are none of ours."""
    return {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}


def _client(peer: str) -> str:
    """The caller's address and port, of gRPC's `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`."""
    return unquote(peer).partition(":")[2]


def _address(peer: str) -> str:
    """The caller's IP address."""
    return _client(peer).rpartition(":")[0].strip("[]")
