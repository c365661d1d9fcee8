"""Labelled rows of a CSV, parsed a block at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mcdrop.cli.labelled_source import BLOCK, Block, Roles, Values, listed
from mcdrop.cli.texts import csv_rows, is_number, open_csv, row_sizes
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import describe


@dataclass(frozen=True, slots=True)
class CsvSource:
    """A CSV with a heading.

    Attributes:
        heading: names of all columns.
        columns: positions of those that are the input, in order.
        sizes: shape of a row of the input.
    """

    path: Path
    spec: TensorSpec
    roles: Roles
    heading: tuple[str, ...]
    columns: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def total(self) -> int | None:
        """Nobody knows before the last line."""
        return None

    def place(self, number: int) -> str:
        """The line that a row ends on."""
        return f"line {number}"

    def where(self, name: str, at: int) -> str:  # noqa: ARG002 - there is one input
        """A cell by its place in the line and its column's name."""
        return f"value {self.columns[at] + 1} ({self.heading[self.columns[at]]})"

    def blocks(self) -> Iterator[Block]:
        """All rows, block by block.

        Raises:
            InputError: the file is not a CSV from somewhere on.
        """
        count = max(1, BLOCK // len(self.heading))
        with open_csv(self.path) as file:
            size = max(1, os.fstat(file.fileno()).st_size)
            with closing(csv_rows(self.path, file)) as rows:
                next(rows)  # the heading
                while block := list(islice(rows, count)):
                    yield self._block(block, file.buffer.tell() / size)

    def _block(self, block: list[tuple[int, list[str]]], share: float) -> Block:
        faults: dict[int, str] = {}
        width = len(self.heading)
        rows = [cells for _, cells in block]
        for row, cells in enumerate(rows):
            if len(cells) != width:
                faults[row] = f"has {len(cells)} values, expected {width}"
                rows[row] = ["0"] * width
        columns = list(zip(*rows, strict=True))
        parsed = [
            self._parsed(columns[place], self.where("", at), faults)
            for at, place in enumerate(self.columns)
        ]
        inputs = np.stack(parsed, axis=1).reshape(len(rows), *self.sizes)
        return Block(
            numbers=[line for line, _ in block],
            inputs={self.spec.name: inputs},
            targets=tuple(self._texts(columns, name) for name in self.roles.targets),
            groups=None if self.roles.group is None else self._texts(columns, self.roles.group),
            share=share,
            faults=faults,
        )

    def _texts(self, columns: list[tuple[str, ...]], name: str) -> Values:
        return np.array(columns[self.heading.index(name)], dtype=object)

    def _parsed(self, cells: Sequence[str], where: str, faults: dict[int, str]) -> Values:
        floats = "float" in self.spec.dtype
        try:
            if floats:
                return np.array(cells, dtype=np.float64)
            return np.fromiter(map(int, cells), np.int64, len(cells))
        except (ValueError, OverflowError):
            return _one_by_one(cells, float if floats else _integer, where, faults)


def _one_by_one(
    cells: Sequence[str], parse: Callable[[str], float], where: str, faults: dict[int, str]
) -> Values:
    values = np.zeros(len(cells), dtype=np.float64 if parse is float else np.int64)
    for row, cell in enumerate(cells):
        try:
            values[row] = parse(cell)
        except (ValueError, OverflowError):
            wanted = "a number" if parse is float else "a whole number that int64 holds"
            faults.setdefault(row, f"{where} is {cell.strip()!r}, not {wanted}")
    return values


def _integer(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        number = float(cell)  # 2.0 is what many tools write for 2
        if not number.is_integer():
            raise
        return int(number)


def open_csv_source(path: Path, specs: Sequence[TensorSpec], roles: Roles) -> CsvSource:
    """Read the heading of a CSV and see that it fits.

    Raises:
        InputError: it does not, or there are no rows.
        OSError: the file cannot be read.
    """
    sizes = row_sizes(path, specs)
    with open_csv(path) as file, closing(csv_rows(path, file)) as rows:
        _, heading = next(rows, (0, []))
        names = tuple(name.strip() for name in heading)
        _check_heading(path, names, roles)
        columns = feature_columns(path, specs[0], names, roles, sizes)
        if next(rows, None) is None:
            raise InputError(f"{path} holds no rows")
    return CsvSource(path, specs[0], roles, names, columns, sizes)


def feature_columns(
    path: Path, spec: TensorSpec, names: Sequence[str], roles: Roles, sizes: tuple[int, ...]
) -> tuple[int, ...]:
    """Positions of the columns that are the one input of a model, a number in each.

    Raises:
        InputError: they are too few or too many.
    """
    columns = roles.inputs(names)
    width = int(np.prod(sizes))
    if len(columns) != width:
        others = [name for name in roles.known() if name in names]
        beside = f" beside {', '.join(sorted(others))}" if others else ""
        count = "1 column" if width == 1 else f"{width} columns"
        raise InputError(
            f"{path}: expected {count} of numbers{beside}, for {describe(spec)}; got "
            f"{len(columns)}: {listed([names[place] for place in columns])}"
        )
    return tuple(columns)


def _check_heading(path: Path, names: Sequence[str], roles: Roles) -> None:
    if not names:
        raise InputError(f"{path}: expected a first line with the names of the columns; got none")
    # names may be numbers, as a data frame without names writes them, if one of them is known
    numbers = [name for name in names if is_number(name)]
    if numbers and not roles.known().intersection(names):
        raise InputError(
            f"{path}: expected a first line with the names of the columns; got numbers in it, such "
            f"as {numbers[0]}: put a line of names before the rows"
        )
    roles.check(path, "a column", names)
