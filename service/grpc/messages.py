"""From the protocol's gRPC messages to the request that both transports share, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.errors import InvalidRequestError
from service.grpc import inference_pb2 as pb
from service.loaded import Loaded
from service.oip.protocol import ModelMetadata
from service.oip.request import InferenceRequest, InputTensor, OutputTensor, RequestedOutput
from service.oip.rest import to_bytes
from service.repository.schemas import IndexEntry

# where the values of a datatype are, if they are not raw; FP16 and BF16 are always
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_request(message: pb.ModelInferRequest) -> InferenceRequest:
    """Read a request, whose tensors are all raw or all typed.

    Raises:
        InvalidRequestError: they are mixed, or there are fewer or more of them than inputs.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequestError(
            f"raw_input_contents holds a tensor for every input, or none: expected "
            f"{len(message.inputs)}, got {len(raw)}"
        )
    inputs = [
        InputTensor(
            given.name,
            given.datatype,
            list(given.shape),
            _raw(given, raw[place]) if raw else _typed(given),
        )
        for place, given in enumerate(message.inputs)
    ]
    outputs = [
        RequestedOutput(out.name, read_parameters(out.parameters)) for out in message.outputs
    ]
    return InferenceRequest(inputs, outputs, read_parameters(message.parameters), message.id)


def read_parameters(
    given: Mapping[str, pb.InferParameter | pb.ModelRepositoryParameter],
) -> dict[str, Any]:
    """Parameters by name; None for one without a value."""
    parameters = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        parameters[name] = None if kind is None else getattr(value, kind)
    return parameters


def write_response(
    loaded: Loaded, asked: InferenceRequest, outputs: Sequence[OutputTensor]
) -> pb.ModelInferResponse:
    """Answer with raw tensors."""
    return pb.ModelInferResponse(
        model_name=loaded.name,
        model_version=str(loaded.version),
        id=asked.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=output.name, datatype=output.datatype, shape=output.values.shape
            )
            for output in outputs
        ],
        raw_output_contents=[to_bytes(output) for output in outputs],
    )


def write_metadata(metadata: ModelMetadata) -> pb.ModelMetadataResponse:
    """Describe a model."""
    return pb.ModelMetadataResponse(
        name=metadata.name,
        versions=metadata.versions,
        platform=metadata.platform,
        inputs=[_tensor(**given.model_dump()) for given in metadata.inputs],
        outputs=[_tensor(**given.model_dump()) for given in metadata.outputs],
    )


def write_index(entries: Sequence[IndexEntry]) -> pb.RepositoryIndexResponse:
    """List the repository."""
    models = [pb.RepositoryIndexResponse.ModelIndex(**entry.model_dump()) for entry in entries]
    return pb.RepositoryIndexResponse(models=models)


_tensor = pb.ModelMetadataResponse.TensorMetadata


def _raw(given: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> bytes:
    if given.contents.ListFields():
        raise InvalidRequestError(
            f"input {given.name!r} has both contents and raw_input_contents; send one of them"
        )
    return raw


def _typed(given: pb.ModelInferRequest.InferInputTensor) -> list[Any]:
    filled = [(field.name, values) for field, values in given.contents.ListFields()]
    wanted = _CONTENTS.get(given.datatype)
    if wanted is None:
        return []  # a datatype that the model does not take, or only raw
    if [name for name, _ in filled] != [wanted]:
        got = ", ".join(name for name, _ in filled) or "nothing"
        raise InvalidRequestError(
            f"input {given.name!r} of {given.datatype} has its values in raw_input_contents, or in "
            f"contents.{wanted} and nowhere else; got {got}"
        )
    return list(filled[0][1])
