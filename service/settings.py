"""What an operator may set: environment variables with the prefix `MCDROP_`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError

PREFIX = "MCDROP_"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _check_device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return name


class Settings(BaseSettings):
    """Settings of the server; keyword arguments win over the environment.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose one, which the log then says.
        grpc_port: TCP port for gRPC, 0 as for `port`; none by default, and no gRPC.
        models: the model repository, `<name>/<version>/` folders.
        device: `auto` (the first GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads for a prediction; torch's own choice by default.
        max_rows: most rows in one request.
        max_samples: most Monte Carlo samples in one request.
        max_body_bytes: largest request body, a number or e.g. `32MiB`.
        queue_size: most requests waiting for the device; the next one gets 429.
        memory_budget: bytes a prediction may use for its chunks, a number or e.g. `1GiB`.
        drain_seconds: how long a stop waits for requests that have begun.
        log_level: the least severe messages to log.

    Raises:
        SettingsError: a value is not acceptable; its one line names the variable.

    Example:
        >>> Settings(port=8080, max_body_bytes="1MiB").max_body_bytes
        1048576
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    models: Path = Path("models")
    device: Annotated[str, AfterValidator(_check_device)] = "auto"
    threads: int | None = Field(default=None, ge=1, le=4096)
    max_rows: int = Field(default=1024, ge=1)
    max_samples: int = Field(default=10_000, ge=1)
    max_body_bytes: ByteSize = Field(default=ByteSize(32 << 20), ge=1)
    queue_size: int = Field(default=64, ge=1)
    memory_budget: ByteSize = Field(default=ByteSize(1 << 30), ge=1)
    drain_seconds: int = Field(default=30, ge=1)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        "info"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError("; ".join(map(_describe, error.errors()))) from None


def _describe(error: ErrorDetails) -> str:
    name = ".".join(str(part) for part in error["loc"])
    said = error["msg"].removeprefix("Value error, ")
    return f"setting {name} ({PREFIX}{name.upper()}): {said}; got {error['input']!r}"
