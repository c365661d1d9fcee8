"""Labelled rows of named arrays, .npz and .safetensors, read a block at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mcdrop.cli.labelled_npz import Member, Read, npz_members, npz_reader
from mcdrop.cli.labelled_source import BLOCK, Block, Roles, Values, listed
from mcdrop.cli.labelled_targets import Targets
from mcdrop.cli.rows import Column, check_counts, check_shape, matched, safetensors_columns
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Arrays by name.

    Attributes:
        members: those that are used.
        inputs: name of the array for each input, by the input's name.
        total: number of rows.
        reader: opens the file and reads arrays from it.
    """

    path: Path
    roles: Roles
    members: dict[str, Member]
    inputs: dict[str, str]
    total: int
    reader: Callable[[Sequence[str]], AbstractContextManager[Read]] = field(repr=False)

    def place(self, number: int) -> str:
        """A row by its number."""
        return f"row {number} (counted from 0)"

    def where(self, name: str, at: int) -> str:
        """A value by its place in a row of the array."""
        array = self.inputs[name]
        sizes = self.members[array].shape[1:]
        place = list(map(int, np.unravel_index(at, sizes))) if sizes else ""
        return f"{array!r} at {place}" if sizes else repr(array)

    def blocks(self) -> Iterator[Block]:
        """All rows, block by block.

        Raises:
            InputError: the file is damaged.
        """
        count = max(1, BLOCK // sum(math.prod(m.shape[1:]) for m in self.members.values()))
        group = self.roles.group
        with self.reader(list(self.members)) as read:
            for start in range(0, self.total, count):
                stop = min(start + count, self.total)
                # an array is read in order, so once a block, even if it has two roles
                block = {name: read(name, start, stop) for name in self.members}
                yield Block(
                    numbers=range(start, stop),
                    inputs={name: block[array] for name, array in self.inputs.items()},
                    targets=tuple(block[name] for name in self.roles.targets),
                    groups=None if group is None else block[group],
                    share=stop / self.total,
                )


def open_array_source(
    path: Path, specs: Sequence[TensorSpec], roles: Roles, targets: Targets | None
) -> ArraySource:
    """Read what arrays there are and see that they fit.

    Raises:
        InputError: they do not, there are no rows, or the file is damaged.
        OSError: the file cannot be read.
    """
    path.open("rb").close()  # a missing file is an OSError whichever library reads it
    archive = path.suffix.lower() == ".npz"
    found = npz_members(path) if archive else _tensors(path)
    roles.check(path, "an array", list(found))
    names = list(found)
    rest = {names[at]: names[at] for at in roles.inputs(names)}
    if all(spec.name in rest for spec in specs):
        rest = {spec.name: spec.name for spec in specs}
    if not rest:
        raise InputError(f"{path}: expected an array for the input; there are {listed(names)}")
    inputs = matched(path, specs, rest)
    members = {name: found[name] for name in (*inputs.values(), *roles.wanted())}
    for spec in specs:
        check_shape(path, spec, members[inputs[spec.name]].shape)
    for name, member in members.items():
        _check_type(path, name, member, text=name not in inputs.values())
    _check_roles(path, roles, members, targets)
    counts = {name: member.shape[0] for name, member in members.items()}
    check_counts(path, "arrays", counts)
    total = next(iter(counts.values()))

    def reader(wanted: Sequence[str]) -> AbstractContextManager[Read]:
        return npz_reader(path, wanted) if archive else _tensor_reader(path)

    return ArraySource(path, roles, members, inputs, total, reader)


def _check_roles(
    path: Path, roles: Roles, members: dict[str, Member], targets: Targets | None
) -> None:
    several = len(roles.targets) > 1
    flat = [*(roles.targets if several else ()), *([roles.group] if roles.group else [])]
    for name in flat:
        if len(members[name].shape) != 1:
            raise InputError(
                f"{path}: expected {name!r} with one value a row, shape [B]; got "
                f"{list(members[name].shape)}"
            )
    for name in roles.targets:
        if not members[name].shape:
            raise InputError(f"{path}: expected {name!r} with a row for each input; got one value")
    if targets is not None and roles.targets:
        shape = members[roles.targets[0]].shape[1:]
        targets.check_shape(path, [len(roles.targets)] if several else shape)


def _check_type(path: Path, name: str, member: Member, *, text: bool) -> None:
    dtype = member.dtype
    if dtype.kind == "O":
        raise InputError(
            f"{path}: {name!r} holds pickled objects, which are not loaded: save numbers"
            f"{' or text (dtype=str)' if text else ''}"
        )
    if member.scattered:
        raise InputError(
            f"{path}: {name!r} is compressed and in Fortran order, so that its rows are not one "
            "after the other: save np.ascontiguousarray of it, or use np.savez"
        )
    if not (dtype.kind in "fiub" and dtype.itemsize <= 8) and not (text and dtype.kind in "US"):
        wanted = "numbers or text" if text else "numbers"
        raise InputError(f"{path}: {name!r} holds {dtype}, not {wanted}")


def _tensors(path: Path) -> dict[str, Member]:
    return {
        name: Member(column.shape, _numpy(column, 0, 0).dtype if column.shape else np.dtype("f8"))
        for name, column in safetensors_columns(path).items()
    }


def _numpy(column: Column, start: int, stop: int) -> Values:
    values = column.read(start, stop)
    if values.is_floating_point() and values.dtype not in (torch.float32, torch.float64):
        values = values.float()  # numpy does not know bfloat16
    made: Values = values.numpy()
    return made


@contextmanager
def _tensor_reader(path: Path) -> Iterator[Read]:
    columns = safetensors_columns(path)
    yield lambda name, start, stop: _numpy(columns[name], start, stop)
