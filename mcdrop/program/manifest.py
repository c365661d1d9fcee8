"""`model.json`: what an artifact says about itself."""

from __future__ import annotations

import datetime as dt
import platform
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from mcdrop.errors import InputError
from mcdrop.program.places import Place
from mcdrop.tasks import AnyTask, Classification, Gaussian, Regression
from mcdrop.version import __version__

SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Text = Annotated[str, Field(max_length=4096)]
DType = Literal[
    "float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"
]


class Record(BaseModel):
    """Base of the manifest's records: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(Record):
    """An input or output: `None` in `shape` is a free axis (the batch axis, 0, always is).

    `ranges` holds the inclusive bounds of free axes other than the batch.
    """

    name: Text
    dtype: DType
    shape: tuple[Annotated[int, Field(ge=0, lt=2**31)] | None, ...] = Field(max_length=16)
    ranges: dict[int, tuple[int, int]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ranges_fit(self) -> Self:
        for axis, (low, high) in self.ranges.items():
            free = 0 < axis < len(self.shape) and self.shape[axis] is None
            if not free or not 1 <= low <= high:
                raise ValueError(f"the range {low} to {high} does not fit axis {axis}")
        return self

    def smallest(self) -> tuple[int, ...]:
        """Shape without the batch axis, every free axis at its lower bound (or 2)."""
        return tuple(
            self.ranges.get(axis, (2, 2))[0] if size is None else size
            for axis, size in enumerate(self.shape)
            if axis > 0
        )


class SiteSpec(Record):
    """A site for the reader: `shape` is that of its mask, `None` where an axis is free.

    `place` is where it stands (`mcdrop.program.places`); `None` in artifacts of before it was told.
    """

    name: Text
    kind: Text
    p: float | None = Field(default=None, ge=0.0, le=1.0)
    shape: tuple[int | None, ...] = ()
    place: Place | None = None


class Defaults(Record):
    """What a prediction uses unless told otherwise."""

    samples: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    masks: Literal["shared", "independent"] = "shared"
    sampling: Literal["balanced", "iid"] = "balanced"


class Files(Record):
    """SHA-256 of the other files, in hex; `None` for one that is not there."""

    graph: SHA256
    weights: SHA256
    calibration: SHA256 | None = None
    evaluation: SHA256 | None = None


# A manifest's file hashes before its files are written.
UNKNOWN = Files(graph="0" * 64, weights="0" * 64)


def made_with() -> dict[str, str]:
    """Versions and date, for a manifest's provenance."""
    return {
        "mcdrop": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def first(error: ValidationError) -> str:
    """The first complaint of pydantic's, in one line."""
    complaint = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in complaint["loc"]) or "the document"
    return f"{where}: {complaint['msg']}"


class Manifest(Record):
    """Everything an artifact says about itself, checked on load.

    Attributes:
        version: version of the model, a positive number; the folder it is published under.
        provenance: how and with what it was made (free text by key).
        metrics: held-out figures by name, e.g. `{"accuracy": 0.98}`.
    """

    format: Literal[1] = 1
    name: Name
    version: int = Field(default=1, ge=1)
    description: Text = ""
    task: AnyTask
    classes: tuple[Text, ...] | None = None
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=64)
    sites: tuple[SiteSpec, ...] = ()
    defaults: Defaults = Defaults()
    metrics: dict[Text, FiniteFloat] = Field(default_factory=dict)
    provenance: dict[Text, Text] = Field(default_factory=dict)
    files: Files

    def check_classes(self) -> None:
        """Raise unless the names of classes fit the model.

        Raises:
            InputError: there are too few or too many names, or the task has no classes.
        """
        if self.classes is None:
            return
        if isinstance(self.task, Regression | Gaussian):
            raise InputError(
                f"a {self.task.kind} model has no classes; got {len(self.classes)} names"
            )
        count = self.class_count()
        if count is not None and len(self.classes) != count:
            raise InputError(f"the model has {count} classes; got {len(self.classes)} names")

    def class_count(self) -> int | None:
        """Number of classes of the output entry; `None` where it is free or the task has none."""
        if not isinstance(self.task, Classification):
            return None
        entry = self.entry()
        return (
            entry.shape[self.task.dim]
            if -len(entry.shape) <= self.task.dim < len(entry.shape)
            else None
        )

    def entry(self) -> TensorSpec:
        """The output that the task reads."""
        named = [spec for spec in self.outputs if spec.name == self.task.entry]
        return named[0] if named else self.outputs[0]
