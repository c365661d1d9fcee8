"""Labelled rows of a Parquet file, read by pyarrow a block at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcdrop.cli.labelled_arrow import (
    Arrow,
    check_type,
    fixed_size,
    is_list,
    list_values,
    plain_values,
)
from mcdrop.cli.labelled_source import BLOCK, Block, Roles, Values
from mcdrop.cli.labelled_targets import Targets
from mcdrop.cli.labelled_text import feature_columns
from mcdrop.cli.rows import matched
from mcdrop.cli.texts import row_sizes
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import describe


@dataclass(frozen=True, slots=True)
class Part:
    """An input's columns: one that holds lists, or numbers of one value each.

    Attributes:
        sizes: shape of a row.
    """

    columns: tuple[int, ...]
    sizes: tuple[int, ...]
    lists: bool


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """A Parquet file.

    Attributes:
        names: of all columns.
        parts: where each input is, by its name.
        target_sizes: shape of a row's target, where the target's column holds lists.
        total: number of rows.
    """

    path: Path
    roles: Roles
    names: tuple[str, ...]
    parts: dict[str, Part]
    target_sizes: tuple[int, ...] | None
    total: int

    def place(self, number: int) -> str:
        """A row by its number."""
        return f"row {number} (counted from 0)"

    def where(self, name: str, at: int) -> str:
        """A value by its column, or by its place in a list."""
        part = self.parts[name]
        if part.lists:
            return f"value {at + 1} of {self.names[part.columns[0]]!r}"
        return f"value {part.columns[at] + 1} ({self.names[part.columns[at]]})"

    def blocks(self) -> Iterator[Block]:
        """All rows, block by block.

        Raises:
            InputError: the file is damaged.
        """
        width = sum(math.prod(part.sizes) for part in self.parts.values())
        count = max(1, BLOCK // (width + math.prod(self.target_sizes or (1,))))
        wanted = {self.names[at] for part in self.parts.values() for at in part.columns}
        wanted.update(self.roles.wanted())
        start = 0
        with opened(self.path) as file:
            batches = file.iter_batches(count, columns=sorted(wanted))
            while True:
                with _sound(self.path):
                    batch = next(batches, None)
                    if batch is None:
                        return
                    block = self._block(batch, start)
                yield block
                start += batch.num_rows

    def _block(self, batch: Arrow, start: int) -> Block:
        faults: dict[int, str] = {}
        stop = start + batch.num_rows
        columns = {name: batch.column(name) for name in batch.schema.names}
        group = self.roles.group
        return Block(
            numbers=range(start, stop),
            inputs={name: self._input(name, columns, faults) for name in self.parts},
            targets=tuple(self._target(columns[n], n, faults) for n in self.roles.targets),
            groups=None
            if group is None
            else plain_values(columns[group], f"group {group!r}", faults),
            share=stop / self.total,
            faults=faults,
        )

    def _input(self, name: str, columns: dict[str, Arrow], faults: dict[int, str]) -> Values:
        part = self.parts[name]
        if part.lists:
            column = self.names[part.columns[0]]
            return list_values(columns[column], part.sizes, repr(column), faults)
        values = [
            plain_values(columns[self.names[place]], self.where(name, at), faults)
            for at, place in enumerate(part.columns)
        ]
        return np.stack(values, axis=1).reshape(-1, *part.sizes)

    def _target(self, column: Arrow, name: str, faults: dict[int, str]) -> Values:
        where = f"target {name!r}"
        if self.target_sizes is not None:
            return list_values(column, self.target_sizes, where, faults)
        return plain_values(column, where, faults)


def open_parquet_source(
    path: Path, specs: Sequence[TensorSpec], roles: Roles, targets: Targets | None
) -> ParquetSource:
    """Read the schema of a Parquet file and see that it fits.

    Raises:
        InputError: it does not, there are no rows, the file is damaged, or pyarrow is not there.
        OSError: the file cannot be read.
    """
    with opened(path) as file:
        schema, total = file.schema_arrow, file.metadata.num_rows
    names = tuple(schema.names)
    roles.check(path, "a column", names)
    parts = _parts(path, specs, roles, schema)
    for part in parts.values():
        for at in part.columns:
            check_type(path, schema.field(at), text=False, lists=part.lists)
    if roles.group is not None:
        check_type(path, schema.field(roles.group), text=True)
    target_sizes = None
    if targets is not None and roles.targets:
        fields = [schema.field(name) for name in roles.targets]
        if len(fields) == 1 and is_list(fields[0].type):
            check_type(path, fields[0], text=False, lists=True)
            target_sizes = _target_sizes(path, fields[0], targets)
        else:
            for field in fields:
                check_type(path, field, text=True)
            targets.check_shape(path, [] if len(fields) == 1 else [len(fields)])
    if total == 0:
        raise InputError(f"{path} holds no rows")
    return ParquetSource(path, roles, names, parts, target_sizes, total)


@contextmanager
def opened(path: Path) -> Iterator[Arrow]:
    """A Parquet file, for as long as the context lasts.

    Raises:
        InputError: the file is damaged, or pyarrow is not there.
        OSError: the file cannot be read.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError(
            f"{path}: reading .parquet takes pyarrow: pip install 'mcdrop[parquet]'"
        ) from error
    path.open("rb").close()  # a missing file is an OSError; so is a damaged one, for pyarrow
    with _sound(path):
        # columns through small buffers, not a whole row group at once
        file = ParquetFile(path, buffer_size=2**16, pre_buffer=False)
    with file:
        yield file


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} is not a sound .parquet file: {text}") from error


def _parts(path: Path, specs: Sequence[TensorSpec], roles: Roles, schema: Arrow) -> dict[str, Part]:
    names = list(schema.names)
    left = roles.inputs(names)
    by_name = {names[at]: at for at in left}
    lists = {name: at for name, at in by_name.items() if is_list(schema.field(at).type)}
    if len(specs) == 1 and not lists:
        sizes = row_sizes(path, specs)
        columns = feature_columns(path, specs[0], names, roles, sizes)
        if len(set(columns)) > len({names[at] for at in columns}):
            raise InputError(f"{path}: columns share a name: rename them")
        return {specs[0].name: Part(columns, sizes, lists=False)}
    if all(spec.name in by_name for spec in specs):
        by_name = {spec.name: by_name[spec.name] for spec in specs}
    found = matched(path, specs, by_name)
    return {spec.name: _part(path, spec, schema, found[spec.name]) for spec in specs}


def _part(path: Path, spec: TensorSpec, schema: Arrow, at: int) -> Part:
    sizes = row_sizes(path, [spec])
    kind, width = schema.field(at).type, math.prod(sizes)
    size = fixed_size(kind) if is_list(kind) else 1
    if size not in (None, width):
        raise InputError(
            f"{path}: expected {describe(spec)}, {width} values a row; got {size} in column "
            f"{schema.names[at]!r}"
        )
    return Part((at,), sizes, is_list(kind))


def _target_sizes(path: Path, field: Arrow, targets: Targets) -> tuple[int, ...]:
    known = tuple(size for size in targets.shape if size is not None)
    free, fixed = len(known) < len(targets.shape), fixed_size(field.type)
    if free and fixed is None:
        raise InputError(
            f"{path}: expected targets of one width, {field.name!r} holds {field.type} and the "
            "model's outputs vary: use fixed_size_list"
        )
    if free or fixed not in (None, math.prod(known)):
        targets.check_shape(path, [fixed or 0])
        return (fixed or 0,)
    return known
