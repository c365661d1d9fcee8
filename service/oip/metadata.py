"""What both transports say about the server and its models."""

from __future__ import annotations

from importlib.metadata import version as installed_version

from service.inference import Runtime
from service.loaded import Loaded
from service.oip.protocol import DATATYPES, ModelMetadata, ServerMetadata, TensorMetadata

EXTENSIONS = ("binary_tensor_data", "model_repository")


def describe_server() -> ServerMetadata:
    """Name, version and the protocol's extensions that are offered."""
    return ServerMetadata(
        name="mcdrop", version=installed_version("mcdrop"), extensions=list(EXTENSIONS)
    )


def describe_model(run: Runtime, loaded: Loaded) -> ModelMetadata:
    """Inputs and outputs of a version, and the versions that can predict; -1 is a free axis."""
    return ModelMetadata(
        name=loaded.name,
        versions=[
            str(version.number)
            for version in run.registry.versions(loaded.name)
            if version.state == "ready"
        ],
        platform="pytorch_mcdrop",
        inputs=[_describe(s.name, DATATYPES[s.dtype], s.shape) for s in loaded.manifest.inputs],
        outputs=[_describe(f.name, DATATYPES[f.dtype], f.shape) for f in loaded.fields],
    )


def _describe(name: str, datatype: str, shape: tuple[int | None, ...]) -> TensorMetadata:
    axes = [-1 if size is None else size for size in shape]
    return TensorMetadata(name=name, datatype=datatype, shape=axes)


def server_is_ready(run: Runtime) -> bool:
    """Whether every model was tried and one can predict, and the server is not stopping."""
    return run.scheduler.accepting and run.registry.state() == "ready"


def model_is_ready(run: Runtime, name: str, version: int | None) -> bool:
    """Whether a model, or a version of it, can predict.

    Raises:
        NotFoundError: there is no such model or version.
    """
    return run.scheduler.accepting and run.registry.find(name, version).state == "ready"
