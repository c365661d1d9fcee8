"""Messages about the repository: the native API's, and those of the protocol's extension."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.registry import State


class StoredVersion(BaseModel):
    """A version on disk, and whether it is served."""

    version: int
    state: State
    reason: str | None = Field(
        description="Why it is not served; of a ready version: why its changed files are not."
    )
    loaded_at: datetime | None = Field(description="When it became ready.")


class StoredModel(BaseModel):
    """A model on disk, and which version of it answers."""

    name: str
    version: int = Field(description="The version that answers when none is named.")
    pinned: int | None = Field(description="The version that an operator chose; null: the newest.")
    versions: list[StoredVersion] = Field(description="All versions, newest first.")


class RepositoryState(BaseModel):
    """The whole repository."""

    models: list[StoredModel]
    versions: str = Field(description="Which versions are loaded: `all` or `latest:N`.")
    watch_seconds: float = Field(description="Between two looks at the disk; 0 for none.")
    looked_at: datetime | None = Field(description="When the disk was looked at last.")
    problem: str | None = Field(description="Why that did not succeed; what was loaded is served.")


class VersionName(BaseModel):
    """A version of a model."""

    model: str
    version: int


class FailedVersion(VersionName):
    """A version that could not be loaded."""

    reason: str


class RepositoryChanges(BaseModel):
    """What a look at the disk brought; `failed` tells nothing that was known before."""

    loaded: list[VersionName]
    reloaded: list[VersionName] = Field(description="Whose files had changed.")
    unloaded: list[VersionName] = Field(description="Gone, or too old for `MCDROP_VERSIONS`.")
    failed: list[FailedVersion]


class PinRequest(BaseModel):
    """Which version is to answer when none is named."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=1, description="One of the model's versions.")


class PinState(BaseModel):
    """Which version answers when none is named."""

    model: str
    version: int = Field(description="The version that answers now.")
    pinned: int | None
    on_disk: bool = Field(
        description="Whether the model's folder says so, too. If not (it is read-only), it is "
        "forgotten when the process ends, and other servers do not hear of it."
    )


class IndexRequest(BaseModel):
    """What to list."""

    ready: bool = Field(default=False, description="Only what is ready.")


class IndexEntry(BaseModel):
    """A version of a model."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE", "LOADING"]
    reason: str


class LoadRequest(BaseModel):
    """What to load; there are no parameters."""

    # read as anything, to be refused in words; documented as it is
    parameters: dict[str, Any] = Field(default={}, json_schema_extra={"maxProperties": 0})


class UnloadRequest(BaseModel):
    """What to unload; `unload_dependents` is accepted, there are none."""

    parameters: dict[str, Any] = Field(
        default={}, json_schema_extra={"propertyNames": {"const": "unload_dependents"}}
    )


class Done(BaseModel):
    """An empty object."""
