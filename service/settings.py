"""What an operator may set: options, environment variables with the prefix `MCDROP_`, a file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.access.keys import KEY
from service.access.limits import Rate
from service.config import Entry, write_toml
from service.errors import SettingsError
from service.setting_sources import PREFIX, gather, holds_secret, variable
from service.telemetry.logs import LogFormat

_DEVICE = re.compile(r"auto|(cpu|cuda(:\d{1,3})?)(,(cpu|cuda(:\d{1,3})?))*")
_ENDPOINT = re.compile(r"https?://[^\s/?#]+[^\s?#]*")
_VERSIONS = re.compile(r"all|latest:[1-9][0-9]{0,3}")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _check_device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise ValueError("expected auto, cpu, cuda or cuda:N, or several with commas between")
    return name


def _check_key_file(path: Path) -> Path:
    if KEY.search(str(path)):
        raise ValueError("expected the path of a file of keys, not a key")
    return path


def _check_proxies(names: str) -> str:
    for name in names.split(","):
        try:
            ipaddress.ip_network("::/0" if name.strip() == "*" else name.strip())
        except ValueError:
            raise ValueError("expected addresses or networks between commas, or *") from None
    return names


def _check_endpoint(url: str) -> str:
    if not _ENDPOINT.fullmatch(url):
        raise ValueError("expected a URL such as http://127.0.0.1:4318")
    return url


def _check_versions(policy: str) -> str:
    if not _VERSIONS.fullmatch(policy):
        raise ValueError("expected all, or latest:N with N from 1")
    return policy


class Settings(BaseSettings):
    """Settings of the server; each field says what it is for, and `--print-config` lists them all.

    Keyword arguments (the command line's options) win over the environment, the environment wins
    over the TOML file that `config` names, and the file over the defaults.

    Raises:
        SettingsError: a value is not acceptable, or the file cannot be read; its one line names
            the variable, or the file and the key.

    Example:
        >>> Settings(port=8080, max_body_bytes="1MiB").max_body_bytes
        1048576
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    config: Path | None = Field(default=None, description="TOML file with settings")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on")
    port: int = Field(
        default=8000,
        ge=0,
        le=65535,
        description="TCP port; 0 lets the system choose one, which the log then says",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="TCP port for gRPC, 0 as for port; without one there is no gRPC",
    )
    models: Path = Field(
        default=Path("models"), description="The model repository, <name>/<version>/ folders"
    )
    versions: Annotated[str, AfterValidator(_check_versions)] = Field(
        default="all",
        description="Which versions of a model are loaded: all, or latest:N, the newest N that can "
        "be loaded; a pinned one is loaded in any case",
    )
    watch_seconds: float = Field(
        default=5.0,
        ge=0,
        le=86_400,
        description="How often the models folder is looked at for what is new, changed or gone; "
        "0 for never",
    )
    warmup_rows: int = Field(
        default=64,
        ge=0,
        le=65_536,
        description="Most rows that a model is tried with before it is ready; 0 for no warm-up",
    )
    device: Annotated[str, AfterValidator(_check_device)] = Field(
        default="auto",
        description="auto (every GPU, or the CPU), cpu, cuda or cuda:N; several, with commas "
        "between, serve side by side",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="CPU threads of each device's worker; torch's own choice by default",
    )
    max_rows: int = Field(default=1024, ge=1, description="Most rows in one request")
    max_samples: int = Field(
        default=10_000, ge=1, description="Most Monte Carlo samples in one request"
    )
    max_body_bytes: ByteSize = Field(
        default=ByteSize(32 << 20),
        ge=1,
        description="Largest request body, a number or e.g. 32MiB",
    )
    step_rows: int = Field(default=64, ge=1, description="Most rows that are sampled together")
    queue_size: int = Field(
        default=64,
        ge=1,
        description="Most requests waiting for a model; the next one gets 429",
    )
    memory_budget: ByteSize = Field(
        default=ByteSize(1 << 30),
        ge=1,
        description="Bytes that a prediction may use for its chunks, a number or e.g. 1GiB",
    )
    drain_seconds: int = Field(
        default=30, ge=1, description="How long a stop waits for requests that have begun"
    )
    api_keys: Annotated[Path, AfterValidator(_check_key_file)] | None = Field(
        default=None,
        description="File of API keys, made by `mcdrop key`; without one everybody may predict, "
        "and management is off",
    )
    metrics_key_required: bool = Field(
        default=False, description="Ask for a key at /metrics, too, where there are keys"
    )
    rate_limit: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Predictions a second for each key, or each address where there are no keys, "
        "unless the key has a rate of its own; counts requests; without a limit by default",
    )
    rate_burst: int | None = Field(
        default=None,
        ge=1,
        description="Predictions at once that rate_limit lets pass; those of a second by default",
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_proxies)] | None = Field(
        default=None,
        description="Addresses or networks whose X-Forwarded-For is believed, between commas, or "
        "*; behind any other proxy all callers share the proxy's address and its rate",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field(default="info", description="The least severe messages to log")
    )
    log_format: Annotated[LogFormat, BeforeValidator(_lower)] = Field(
        default="text", description="text, or json for an object on each line"
    )
    otel_endpoint: Annotated[str, AfterValidator(_check_endpoint)] | None = Field(
        default=None,
        description="Where an OpenTelemetry collector takes traces by OTLP over HTTP, such as "
        "http://127.0.0.1:4318; without it OpenTelemetry's own environment decides",
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def most_versions(self) -> int | None:
        """How many versions of a model are loaded; `None` for all of them."""
        number = self.versions.partition(":")[2]
        return int(number) if number else None

    @property
    def rate(self) -> Rate | None:
        """How often a caller may predict; `None` for no limit."""
        return None if self.rate_limit is None else Rate.of(self.rate_limit, self.rate_burst)

    def __init__(self, **options: Any) -> None:
        sources = gather(type(self), options)
        try:
            super().__init__(**sources.values)
        except ValidationError as error:
            fields = type(self).model_fields
            said = (sources.explain(item, fields) for item in error.errors())
            raise SettingsError("; ".join(said)) from None
        self._origins = sources.origins

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The constructor has put the sources together, to know which value came from where."""
        return (init_settings,)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        kind = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("expected a value other than true or false")
        return value

    def origin(self, name: str) -> str:
        """Where the value of a setting came from: `default`, `file`, `environment`, `option`."""
        return self._origins.get(name, "default")

    def to_toml(self) -> str:
        """The settings in force as a file for `config`, secrets left out, with comments.

        Example:
            >>> 'host = "0.0.0.0"' in Settings(host="0.0.0.0").to_toml()
            True
        """
        return write_toml(
            Entry(
                name,
                getattr(self, name),
                field.description or name,
                variable(name),
                self.origin(name),
                secret=holds_secret(field.annotation),
            )
            for name, field in type(self).model_fields.items()
            if name != "config"
        )


def variables(settings: type[Settings] = Settings) -> tuple[str, ...]:
    """Names of the environment variables."""
    return tuple(map(variable, settings.model_fields))
