"""Where rows are in what the trunk leaves for the tail, where rows of many callers are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.program.program import Program
from mcdrop.program.schema import dtype_of

# Two numbers of rows that no other axis of a model is likely to be multiples of.
_FEW, _MANY = 7, 11
# Rows may be rounded differently by their place in a batch; another row is another number.
_CLOSE, _CLOSE_IN_HALF = 1e-3, 5e-2


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of one boundary value are.

    Attributes:
        dim: their axis; `None` where the value is the same for any rows.
        fold: how many elements of that axis belong to a row, neighbours of each other.
    """

    dim: int | None
    fold: int = 1

    def rows_first(self, value: Tensor) -> Tensor:
        """The value with an axis of rows in front."""
        assert self.dim is not None
        if self.fold > 1:
            value = value.unflatten(self.dim, (-1, self.fold))
        return value.movedim(self.dim, 0)

    def put_back(self, value: Tensor) -> Tensor:
        """From rows first to where the tail expects them."""
        assert self.dim is not None
        value = value.movedim(0, self.dim)
        return value.flatten(self.dim, self.dim + 1) if self.fold > 1 else value


@dataclass(frozen=True, slots=True)
class Count:
    """A number in the boundary: a size that the trunk has read off its inputs."""

    base: int
    per_row: int


@dataclass(frozen=True, slots=True)
class BoundaryLayout:
    """Cuts boundary values into rows, and puts them together again.

    Attributes:
        places: of each value.
    """

    places: tuple[Place | Count, ...]

    def cut(self, values: Sequence[Any]) -> tuple[Tensor, ...]:
        """The values that have rows, rows first: each `[B, ...]`."""
        pairs = zip(self.places, values, strict=True)
        return tuple(p.rows_first(v) for p, v in pairs if _has_rows(p))

    def constants(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """The values that are the same for any rows."""
        pairs = zip(self.places, values, strict=True)
        return tuple(v for p, v in pairs if isinstance(p, Place) and not _has_rows(p))

    def assemble(self, parts: Sequence[Tensor], constants: Sequence[Any], rows: int) -> list[Any]:
        """The boundary values of rows that were cut, perhaps from others."""
        cut, same = iter(parts), iter(constants)
        values: list[Any] = []
        for place in self.places:
            if isinstance(place, Count):
                values.append(place.base + place.per_row * rows)
            else:
                values.append(place.put_back(next(cut)) if _has_rows(place) else next(same))
        return values


def find_layout(program: Program, sizes: Mapping[str, Sequence[int]]) -> BoundaryLayout | None:
    """The layout of a program's boundary; `None` where its rows cannot be told apart.

    The axes are found on the meta device, with two numbers of rows, and what was found is tried: a
    row's values must be the same whatever row is beside it.

    Args:
        program: what is sampled.
        sizes: shape of each input, the batch taken out.
    """
    few, many = (
        program.measure(program.trunk, program.meta_inputs(rows, sizes)).outputs
        for rows in (_FEW, _MANY)
    )
    places = []
    for name in program.split.boundary:
        place = _place(few[name], many[name])
        if place is None:
            return None
        places.append(place)
    layout = BoundaryLayout(tuple(places))
    joinable = any(map(_has_rows, places)) and _holds(program, layout, sizes)
    return layout if joinable else None


def _has_rows(place: Place | Count) -> TypeGuard[Place]:
    return isinstance(place, Place) and place.dim is not None


def _place(few: Any, many: Any) -> Place | Count | None:
    if isinstance(few, Tensor) and isinstance(many, Tensor):
        if few.ndim != many.ndim:
            return None
        axes = [i for i, (a, b) in enumerate(zip(few.shape, many.shape, strict=True)) if a != b]
        if not axes:
            return Place(None)
        (dim, *others), fold = axes, few.shape[axes[0]] // _FEW
        if others or (fold * _FEW, fold * _MANY) != (few.shape[dim], many.shape[dim]):
            return None
        return Place(dim, fold)
    if isinstance(few, int) and isinstance(many, int):
        per_row, rest = divmod(many - few, _MANY - _FEW)
        return None if rest else Count(few - per_row * _FEW, per_row)
    return Place(None) if few == many else None


@torch.no_grad()
def _holds(program: Program, layout: BoundaryLayout, sizes: Mapping[str, Sequence[int]]) -> bool:
    """Whether two rows, cut and put together anew, are what they are beside themselves."""
    rows = [_example(program, sizes, row) for row in (0, 1)]

    def run(first: int, second: int) -> tuple[Any, ...]:
        pairs = {n: torch.stack((rows[first][n], rows[second][n])) for n in rows[0]}
        return program.run_trunk(pairs)

    try:
        both, *alone = run(0, 1), run(0, 0), run(1, 1)
    except (RuntimeError, IndexError, InputError):
        return False  # not what this model takes: its rows are not joined
    beside = layout.cut(both)
    for row, own in enumerate(alone):
        for got, expected in zip(beside, layout.cut(own), strict=True):
            bound = _CLOSE_IN_HALF if got.dtype in (torch.bfloat16, torch.float16) else _CLOSE
            if not torch.allclose(got[row].double(), expected[0].double(), rtol=bound, atol=bound):
                return False
        for got, expected in zip(layout.constants(both), layout.constants(own), strict=True):
            if isinstance(got, Tensor) and not torch.equal(got, expected):
                return False
    return True


def _example(program: Program, sizes: Mapping[str, Sequence[int]], row: int) -> dict[str, Tensor]:
    """A row unlike the other one; small numbers, which most tables of embeddings have."""
    generator = torch.Generator().manual_seed(row)
    tensors = {}
    for spec in program.inputs:
        shape, dtype = tuple(sizes[spec.name]), dtype_of(spec.dtype)
        if dtype.is_floating_point:
            made = torch.randn(shape, generator=generator).to(dtype)
        else:
            made = torch.randint(0, 2, shape, generator=generator).to(dtype)
        tensors[spec.name] = made.to(program.device)
    return tensors
