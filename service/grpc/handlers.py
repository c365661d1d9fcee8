"""What the service's methods do: the same as their REST counterparts, by the same functions."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
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
from service.errors import DeadlineError, InvalidRequestError, RequestError
from service.grpc import inference_pb2 as pb
from service.grpc.messages import read_request, write_metadata, write_response
from service.inference import Runtime, predicted
from service.oip.metadata import describe_model, describe_server, model_is_ready, server_is_ready
from service.oip.request import choose_outputs, output_tensors, read_query

log = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"

_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Handlers:
    """The methods of the service. What is not here, gRPC answers with UNIMPLEMENTED."""

    def __init__(self, run: Runtime) -> None:
        self._run = run

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:  # noqa: ARG002
        """True as long as the server answers at all."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:  # noqa: ARG002
        """Whether every model was tried and one can predict."""
        return pb.ServerReadyResponse(ready=server_is_ready(self._run))

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether a model, or a version of it, can predict."""
        ready = model_is_ready(self._run, request.name, _version(request.version))
        return pb.ModelReadyResponse(ready=ready)

    async def server_metadata(
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002
    ) -> pb.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        return pb.ServerMetadataResponse(**describe_server().model_dump())

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Inputs and outputs of a model."""
        loaded = self._run.registry.ready(request.name, _version(request.version))
        return write_metadata(describe_model(self._run, loaded))

    async def model_infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Monte Carlo prediction; a caller who goes away cancels it."""
        loaded = self._run.registry.ready(request.model_name, _version(request.model_version))
        asked = read_request(request)
        chosen = choose_outputs(loaded, asked)
        timed = await predicted(self._run, loaded, read_query(self._run, loaded, asked))
        return write_response(loaded, asked, output_tensors(chosen, timed.value))


@dataclass(frozen=True, slots=True, eq=False)
class _Method:
    """A method; `scope` is what a caller's key must allow, `spends` whether it counts as a use."""

    handle: Callable[[Any], Awaitable[Any]]
    message: Any
    scope: KeyScope | None = KeyScope.READ
    spends: bool = False


def method_handlers(run: Runtime, access: Access) -> Any:
    """The service's methods by name, for `grpc.aio.Server.add_generic_rpc_handlers`."""
    handlers = Handlers(run)
    methods = {
        "ServerLive": _Method(handlers.server_live, pb.ServerLiveRequest, scope=None),
        "ServerReady": _Method(handlers.server_ready, pb.ServerReadyRequest, scope=None),
        "ModelReady": _Method(handlers.model_ready, pb.ModelReadyRequest),
        "ServerMetadata": _Method(handlers.server_metadata, pb.ServerMetadataRequest),
        "ModelMetadata": _Method(handlers.model_metadata, pb.ModelMetadataRequest),
        "ModelInfer": _Method(handlers.model_infer, pb.ModelInferRequest, spends=True),
    }
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(method, access), response_serializer=methodcaller("SerializeToString")
            )
            for name, method in methods.items()
        },
    )


def _guarded(method: _Method, access: Access) -> Callable[[bytes, Any], Awaitable[Any]]:
    """Let callers in as `service.access.gate` does, and say errors as gRPC does."""

    async def answer(request: bytes, context: Any) -> Any:
        trailing: list[tuple[str, str]] = []
        try:
            _admit(method, access, context)
            return await method.handle(method.message.FromString(request))
        except DecodeError:
            code, said = grpc.StatusCode.INVALID_ARGUMENT, "the message cannot be read"
        except DeadlineError as error:
            code, said = grpc.StatusCode.DEADLINE_EXCEEDED, str(error)
        except RequestError as error:
            code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
            said = str(error)
            trailing = [item for item in error.headers.items() if item[0] == "retry-after"]
        except InputError as error:
            code, said = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except Exception:
            log.exception("a gRPC request failed")
            code = grpc.StatusCode.INTERNAL
            said = "the server failed on this request; its log says more"
        return await context.abort(code, said, tuple(trailing))

    return answer


def _admit(method: _Method, access: Access, context: Any) -> None:
    if method.scope is None:
        return
    metadata = {
        key.encode(): value if isinstance(value, bytes) else value.encode()
        for key, value in context.invocation_metadata()
    }
    key = access.check(presented(metadata), method.scope)
    if method.spends:
        access.spend(key, _address(context.peer()))


def _address(peer: str) -> str:
    """The caller's IP address, of gRPC's `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _version(said: str) -> int | None:
    if not said:
        return None
    if not _VERSION.fullmatch(said):
        raise InvalidRequestError(f"a version is a whole number from 1, or empty; got {said!r:.40}")
    return int(said)
