"""What the service's methods do: the same as their REST counterparts, by the same functions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from service.access.access import Access
from service.access.keys import KeyScope
from service.errors import InvalidRequestError
from service.grpc import inference_pb2 as pb
from service.grpc.calls import Calls, Method
from service.grpc.messages import (
    read_parameters,
    read_request,
    write_index,
    write_metadata,
    write_response,
)
from service.inference import Runtime, predicted
from service.oip import repository as oip
from service.oip.metadata import describe_model, describe_server, model_is_ready, server_is_ready
from service.oip.request import choose_outputs, output_tensors, read_query

SERVICE = "inference.GRPCInferenceService"

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class Handlers:
    """The methods of the service."""

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

    async def repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        """Every version of every model, also those that are not served, with the reason."""
        _only_repository(request.repository_name)
        return write_index(oip.list_versions(self._run, ready=request.ready))

    async def load_model(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        """Load what is new, changed, failed or unloaded of a model; answers when done."""
        _only_repository(request.repository_name)
        parameters = read_parameters(request.parameters)
        # as over HTTP, a caller who goes away leaves nothing half loaded
        await asyncio.shield(oip.load_model(self._run, request.model_name, parameters))
        return pb.RepositoryModelLoadResponse()

    async def unload_model(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload all versions of a model; answers when it takes no more requests."""
        _only_repository(request.repository_name)
        oip.unload_model(self._run, request.model_name, read_parameters(request.parameters))
        return pb.RepositoryModelUnloadResponse()


class Service:
    """The service as `grpc.aio.Server.add_generic_rpc_handlers` takes one."""

    def __init__(self, run: Runtime, access: Access) -> None:
        self._calls = Calls(access, run.tracing)
        methods = _methods(Handlers(run))
        self._known = ", ".join(method.name.rpartition("/")[2] for method in methods)
        self._handlers = {method.name: self._calls.handler(method) for method in methods}

    def service(self, call: Any) -> Any:
        """What answers a call; gRPC's own answer to what is not there would leave no record."""
        found = self._handlers.get(call.method)
        return found or self._calls.refuser(call.method, self._known)


def _methods(handlers: Handlers) -> list[Method]:
    predicts, manages = {"spends": True}, {"scope": KeyScope.ADMIN}
    methods: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("ServerLive", handlers.server_live, pb.ServerLiveRequest, {"scope": None}),
        ("ServerReady", handlers.server_ready, pb.ServerReadyRequest, {"scope": None}),
        ("ModelReady", handlers.model_ready, pb.ModelReadyRequest, {}),
        ("ServerMetadata", handlers.server_metadata, pb.ServerMetadataRequest, {}),
        ("ModelMetadata", handlers.model_metadata, pb.ModelMetadataRequest, {}),
        ("ModelInfer", handlers.model_infer, pb.ModelInferRequest, predicts),
        ("RepositoryIndex", handlers.repository_index, pb.RepositoryIndexRequest, manages),
        ("RepositoryModelLoad", handlers.load_model, pb.RepositoryModelLoadRequest, manages),
        ("RepositoryModelUnload", handlers.unload_model, pb.RepositoryModelUnloadRequest, manages),
    ]
    return [
        Method(f"/{SERVICE}/{name}", _reading(message, handle), **needs)
        for name, handle, message, needs in methods
    ]


def _reading(message: Any, handle: Callable[[Any], Awaitable[Any]]) -> Callable[[bytes], Any]:
    async def read_and_handle(request: bytes) -> Any:
        return await handle(message.FromString(request))

    return read_and_handle


def _only_repository(name: str) -> None:
    if name:
        raise InvalidRequestError(
            "there is one repository, and it has no name: leave repository_name empty; "
            f"got {name!r:.80}"
        )


def _version(said: str) -> int | None:
    if not said:
        return None
    if not _VERSION.fullmatch(said):
        raise InvalidRequestError(f"a version is a whole number from 1, or empty; got {said!r:.40}")
    return int(said)
