"""Messages of the Open Inference Protocol v2 (REST)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from mcdrop.program.manifest import DType

DATATYPES: dict[DType, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
}
BINARY_ONLY = frozenset({"FP16", "BF16"})
Parameters = dict[str, Any]


class InferInput(BaseModel):
    """An input tensor."""

    name: str
    shape: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(max_length=16)
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = Field(
        default=None,
        description="Row-major, flat or nested in the tensor's shape. Absent where the tensor "
        "follows the JSON in binary, with `binary_data_size` in the parameters.",
    )


class RequestedOutput(BaseModel):
    """An output to answer with; `parameters` takes `binary_data`."""

    name: str
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """An inference request.

    `parameters` takes `mc_samples`, `mc_seed`, `mc_tolerance`, and `binary_data_output`.
    """

    id: str | None = None
    parameters: Parameters = {}
    inputs: list[InferInput]
    outputs: list[RequestedOutput] | None = Field(
        default=None, description="All of the model's outputs if absent."
    )


class InferOutput(BaseModel):
    """An output tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = Field(
        default=None,
        description="Flat, row-major; null where a number is undefined (the variances of a single "
        "sample) or overflows. Absent where the tensor follows in binary, in `binary_data_size` "
        "bytes.",
    )


class InferResponse(BaseModel):
    """The answer to an inference request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutput]


class TensorMetadata(BaseModel):
    """An input or output; -1 in `shape` is a free axis."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and answers."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """What the server is, and the protocol extensions it offers."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server lives."""

    live: bool


class Ready(BaseModel):
    """Whether the server can predict."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model can predict."""

    name: str
    ready: bool


class ErrorMessage(BaseModel):
    """An error."""

    error: str
