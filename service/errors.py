"""What can go wrong in the service, and how it is said over HTTP.

McdropError
├── SettingsError               a setting, or a file that one names, is not acceptable
├── StartError                  the server cannot start
├── UnloadableError             a version of a model cannot be loaded
└── RequestError                a request is answered with an error; `status` says which
    ├── MalformedBodyError          400, the body is not what it claims to be
    ├── UnauthorizedError           401, no API key or an unknown one
    ├── ForbiddenError              403, the key's scope is not enough, or management is off
    ├── NotFoundError               404, no such model or version
    ├── NotAcceptableError          406, no answer of the kind that the caller accepts
    ├── ConflictError               409, the repository is not such that it can be done
    ├── BodyTooLargeError           413
    ├── EncodingError               415, a compression that is not offered
    ├── InvalidRequestError         422, the request does not fit the model (400 under /v2)
    ├── QueueFullError              429, with Retry-After
    ├── RateLimitedError            429, with Retry-After
    ├── UnimplementedError          501, no such method; over gRPC only
    ├── NotReadyError               503, loading or stopping, with Retry-After
    └── DeadlineError               503, the deadline passed before there was an answer

Native paths answer with problem+json (RFC 9457), paths under /v2 with `{"error": text}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from mcdrop.errors import InputError, McdropError

CLIENT_GONE = 499  # never sent: there is nobody left to read it


class SettingsError(McdropError, ValueError):
    """A setting, or a file that one names, is not acceptable; the message names it."""


class StartError(McdropError):
    """The server cannot start; the message says why and what to do."""


class UnloadableError(McdropError):
    """A version cannot be loaded; the message is the reason that callers read."""


class Violation(TypedDict):
    """One thing wrong with a request: where (a JSON pointer into the body) and what."""

    pointer: str
    detail: str


class RequestError(McdropError):
    """A request that gets an error; the message is for the caller to read."""

    status: ClassVar[int] = 400
    headers: Mapping[str, str] = MappingProxyType({})


class MalformedBodyError(RequestError):
    """The body is not what it claims to be: JSON, an array, compressed data."""


class UnauthorizedError(RequestError):
    """There is no API key, or it is not known."""

    status = 401
    headers: Mapping[str, str] = {"www-authenticate": "Bearer"}


class ForbiddenError(RequestError):
    """The API key's scope is not enough, or nobody may do this."""

    status = 403


class NotFoundError(RequestError):
    """No model or version of this name."""

    status = 404


class NotAcceptableError(RequestError):
    """The server has no answer of a kind that the caller accepts."""

    status = 406


class ConflictError(RequestError):
    """What is asked for is not possible with the repository as it is."""

    status = 409


class BodyTooLargeError(RequestError):
    """The body is larger than the server takes; the rest of it is not read."""

    status = 413
    headers = MappingProxyType({"connection": "close"})


class EncodingError(RequestError):
    """The body is encoded in a way that the server does not read."""

    status = 415
    headers = MappingProxyType({"accept-encoding": "gzip, deflate"})


class InvalidRequestError(RequestError):
    """The request does not fit the model or the server's limits."""

    status = 422

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = tuple(violations)

    @classmethod
    def from_validation(cls, error: ValidationError, fields: Iterable[str]) -> InvalidRequestError:
        """Put pydantic's errors into one message, and into one violation each."""
        violations: list[Violation] = []
        said = []
        for item in error.errors(include_url=False):
            # RFC 6901, section 3
            parts = (str(part).replace("~", "~0").replace("/", "~1") for part in item["loc"])
            pointer = "".join(f"/{part}" for part in parts)
            if item["type"] == "extra_forbidden":
                detail = f"there is no such field; there are: {', '.join(fields)}"
            elif item["type"] in {"model_type", "dict_type"}:  # pydantic names a class of ours
                detail = "send a JSON object" + _describe_input(item["input"])
            else:
                detail = item["msg"].removeprefix("Value error, ") + _describe_input(item["input"])
            violations.append({"pointer": f"#{pointer}", "detail": detail})
            said.append(f"{pointer[1:] or 'body'}: {detail}")
        return cls("; ".join(said), violations)


class QueueFullError(RequestError):
    """More requests are waiting than the server keeps; `seconds` may be enough to wait."""

    status = 429

    def __init__(self, message: str, *, seconds: int = 1) -> None:
        super().__init__(message)
        self.headers = {"retry-after": str(seconds)}


class RateLimitedError(RequestError):
    """The caller has asked too often lately; `retry_after` says for how many seconds to wait."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.headers = {"retry-after": str(retry_after)}


class UnimplementedError(RequestError):
    """There is no such method."""

    status = 501


class NotReadyError(RequestError):
    """The model or the server is not ready to predict."""

    status = 503
    headers = MappingProxyType({"retry-after": "1"})


class DeadlineError(RequestError):
    """The caller's deadline passed before there was anything to answer with."""

    status = 503
    headers = MappingProxyType({"retry-after": "1"})


def _describe_input(value: object) -> str:
    scalar = value is None or isinstance(value, bool | int | float | str)
    return f"; got {orjson.dumps(value).decode():.80}" if scalar else ""


def speaks_oip(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def problem(status: int, detail: str) -> dict[str, Any]:
    """A problem as RFC 9457 has it."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def error_response(
    path: str,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    violations: Sequence[Violation] = (),
) -> Response:
    """Say an error in the words of the protocol that `path` belongs to."""
    body: dict[str, Any]
    if speaks_oip(path):
        # the protocol knows no 409, 415 and 422
        status = 400 if status in {409, 415, 422} else status
        body, media_type = {"error": detail}, "application/json"
    else:
        body = problem(status, detail)
        if violations:
            body["errors"] = list(violations)
        media_type = "application/problem+json"
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    violations = error.violations if isinstance(error, InvalidRequestError) else ()
    path = request.url.path
    return error_response(
        path, error.status, str(error), headers=error.headers, violations=violations
    )


async def _on_input_error(request: Request, error: Exception) -> Response:
    return error_response(request.url.path, InvalidRequestError.status, str(error))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    # FastAPI reads only the path's and the query's parameters; bodies are read by `read_json`
    assert isinstance(error, RequestValidationError)
    said = (f"{item['loc'][-1]} in the {item['loc'][0]}: {item['msg']}" for item in error.errors())
    return error_response(request.url.path, InvalidRequestError.status, "; ".join(said))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, method, detail = request.url.path, request.method, str(error.detail)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {path}; /docs lists what there is"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _allowed_methods(request)
        detail = f"{method} is not possible on {path}; use {' or '.join(allowed)}"
        return error_response(
            path, error.status_code, detail, headers={"allow": ", ".join(allowed)}
        )
    return error_response(path, error.status_code, detail, headers=error.headers)


def _allowed_methods(request: Request) -> list[str]:
    """All that a path answers to; the router says only those of the first route of the path."""
    asked = {name: request.scope[name] for name in ("type", "path", "root_path")}
    return [
        method
        for method in ("GET", "POST", "DELETE")
        for route in request.app.routes
        if route.matches({**asked, "method": method})[0] is Match.FULL
    ]


async def _on_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    detail = "the server failed on this request; its log says more"
    return error_response(request.url.path, 500, detail)


async def _on_disconnect(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=CLIENT_GONE)


def install_handlers(app: FastAPI) -> None:
    """Replace FastAPI's own error bodies with ours."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(InputError, _on_input_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)
