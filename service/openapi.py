"""What the OpenAPI document says beyond what FastAPI derives: bodies, errors, examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.access.gate import scope_of
from service.errors import speaks_oip
from service.oip.protocol import ErrorMessage
from service.schemas import Problem

DESCRIPTION = """
Predictions with uncertainty from models with Monte Carlo dropout.

**Native API** (`/v1`): `GET /v1/models` says what is served, `POST /v1/models/{model}/predict`
predicts, with conformal sets and intervals where the model was calibrated;
`GET /v1/models/{model}/calibration` says how good that is. Errors are [problem+json](https://www.rfc-editor.org/rfc/rfc9457).

**Open Inference Protocol v2** (`/v2`): for clients such as `tritonclient[http]`, in JSON or with
binary tensors, with the parameters `mc_samples`, `mc_seed` and `mc_tolerance`. Errors are
`{"error": text}`.

Bodies may be compressed with gzip or deflate, both ways.

Entropies are in nats, variances in squared units of the output.
"""

TAGS: list[dict[str, Any]] = [
    {"name": "predict", "description": "Predictions with uncertainty."},
    {"name": "calibration", "description": "How good the predictions are."},
    {"name": "models", "description": "What is served: inputs, outputs, sites, metrics, state."},
    {"name": "repository", "description": "For operators: reloading, rolling back."},
    {"name": "open inference protocol", "description": "Version 2, REST, JSON and binary tensors."},
    {"name": "health", "description": "For probes and load balancers."},
]

_PROBLEMS = {
    400: "The body is not what it claims to be: JSON, an array, compressed data.",
    401: "There is no API key, or it is not known.",
    403: "The scope of the API key is not enough.",
    404: "No such model or version.",
    406: "There is no answer of a kind that `Accept` names.",
    409: "The version cannot be loaded; `detail` says why.",
    413: "The body is larger than `MCDROP_MAX_BODY_BYTES`, as sent or decompressed.",
    415: "The body is compressed otherwise than once, by gzip or deflate.",
    422: "The request does not fit the model or the server's limits; `detail` says how.",
    429: "Too many requests are waiting, or came lately from this caller; try again after "
    "`Retry-After` seconds.",
    503: "The model is loading or unavailable, or the server is stopping.",
}

BINARY = {"schema": {"type": "string", "format": "binary"}}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key as a bearer token."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def request_body(
    model: type[BaseModel], examples: dict[str, Any], *, binary: str | None = None
) -> dict[str, Any]:
    """The part of an operation that describes a body which the route reads on its own.

    Args:
        model: of the JSON.
        examples: of it.
        binary: media type of the bytes that may be sent in its place.
    """
    content: dict[str, Any] = {"application/json": {"schema": inline(model), "examples": examples}}
    if binary is not None:
        content[binary] = BINARY
    return {"requestBody": {"required": True, "content": content}}


def query_parameters(model: type[BaseModel], hint: str) -> list[dict[str, Any]]:
    """Describe a model's fields as parameters in the query; those that are not offered are not."""
    return [
        {
            "name": name,
            "in": "query",
            "description": hint + schema["description"],
            "schema": {"anyOf": schema["anyOf"]},
        }
        for name, schema in inline(model)["properties"].items()
        if "anyOf" in schema
    ]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the native errors with these statuses."""
    return {status: _problem(status) for status in statuses}


def protocol_errors() -> dict[int | str, dict[str, Any]]:
    """Document the errors of the Open Inference Protocol."""
    return {
        "4XX": {
            "model": ErrorMessage,
            "description": "400: the request does not fit; 404: no such model; 413: the body is "
            "too large; 429: too many requests are waiting, or came lately from this caller.",
        },
        503: {"model": ErrorMessage, "description": "Loading, unavailable, or stopping."},
    }


def document_keys(app: FastAPI, *, metrics: bool) -> None:
    """Say in the document of an application with API keys where one is needed, and how it is sent.

    Args:
        app: the application, its routes included or not yet.
        metrics: whether a key is asked for at `/metrics`.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        for path, methods in document["paths"].items():
            if scope_of(path, metrics=metrics) is None:
                continue
            for operation in methods.values():
                operation["security"] = [{name: []} for name in _SCHEMES]
                if "4XX" not in operation["responses"]:
                    refuse = _protocol_error if speaks_oip(path) else _problem
                    refusals = {str(status): refuse(status) for status in (401, 403)}
                    operation["responses"] = refusals | operation["responses"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way


def inline(model: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of a model with its references written out, to stand anywhere in the document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(part: object) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return resolve(definitions[part["$ref"].rpartition("/")[2]])
            return {key: resolve(value) for key, value in part.items()}
        return [resolve(item) for item in part] if isinstance(part, list) else part

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def _protocol_error(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": inline(ErrorMessage)}}
    return {"description": _PROBLEMS[status], "content": content}


def _problem(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": inline(Problem)}}
    documented: dict[str, Any] = {"description": _PROBLEMS[status], "content": content}
    if status in {429, 503}:
        documented["headers"] = _RETRY_AFTER
    return documented
