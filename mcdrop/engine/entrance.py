"""Rows on their way into an engine: as the caller's inputs, or as what the trunk made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mcdrop.engine.boundary import BoundaryLayout
from mcdrop.engine.engine import Engine, Run
from mcdrop.sampling import MaskBank


class Entrance(Protocol):
    """Some rows, from which a run can be opened."""

    def open(self, engine: Engine, bank: MaskBank, rows: Sequence[int]) -> Run:
        """A run of an engine; `rows` are the keys of independent masks."""
        ...

    def part(self, some: slice) -> Entrance:
        """Some of the rows."""
        ...

    def doubled(self) -> Entrance:
        """The one row twice, for models that do not take one row alone."""
        ...


@dataclass(frozen=True, slots=True)
class FromInputs:
    """Rows by the model's inputs: checked tensors, on the engine's device."""

    inputs: Mapping[str, Tensor]

    def open(self, engine: Engine, bank: MaskBank, rows: Sequence[int]) -> Run:
        """Run the trunk, or the whole model, as the engine does."""
        return engine.open(self.inputs, bank, rows)

    def part(self, some: slice) -> FromInputs:
        """Some of the rows."""
        return FromInputs({name: tensor[some] for name, tensor in self.inputs.items()})

    def doubled(self) -> FromInputs:
        """The one row twice."""
        return FromInputs({name: torch.cat((t, t)) for name, t in self.inputs.items()})


@dataclass(frozen=True, slots=True)
class FromBoundary:
    """Rows by what the trunk has made of them.

    Attributes:
        layout: how the boundary is put together.
        parts: its values, rows first.
        constants: its values that have no rows.
    """

    layout: BoundaryLayout
    parts: tuple[Tensor, ...]
    constants: tuple[Any, ...]

    def open(self, engine: Engine, bank: MaskBank, rows: Sequence[int]) -> Run:
        """Go on with the tail."""
        boundary = self.layout.assemble(self.parts, self.constants, len(rows))
        return engine.resume(boundary, bank, rows)

    def part(self, some: slice) -> FromBoundary:
        """Some of the rows."""
        return FromBoundary(self.layout, tuple(p[some] for p in self.parts), self.constants)

    def doubled(self) -> FromBoundary:
        """The one row twice."""
        twice = tuple(torch.cat((part, part)) for part in self.parts)
        return FromBoundary(self.layout, twice, self.constants)
