"""Input rows from a file: .npy, .npz, .csv, .json or .safetensors, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from mcdrop.cli.suffix import checked_suffix
from mcdrop.cli.texts import read_csv, read_json
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import describe, dtype_of

SUFFIXES = (".npy", ".npz", ".csv", ".json", ".safetensors")
SHOWN = 5
SCAN = 4096

Slice: TypeAlias = Callable[[int, int], Tensor]
Array = TypeVar("Array")


@dataclass(frozen=True, slots=True)
class Column:
    """One input's rows, read a slice at a time: `[B, ...]`."""

    shape: tuple[int, ...]
    read: Slice


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, as the model's inputs.

    Attributes:
        path: the file.
        specs: what the model takes.
        columns: one for each input, by its name.
        lines: line number of each row, where the file has lines.
    """

    path: Path
    specs: Sequence[TensorSpec]
    columns: Mapping[str, Column]
    lines: Sequence[int] = field(default=(), repr=False)

    def __len__(self) -> int:
        return next(iter(self.columns.values())).shape[0]

    def place(self, row: int) -> str:
        """Where a row is in the file, for people."""
        return f"line {self.lines[row]}" if self.lines else f"row {row} (counted from 0)"

    def batches(self, size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Pairs (first row, inputs by name) of at most `size` rows, of the model's types.

        Raises:
            InputError: values of the wrong type or range.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield (
                start,
                {
                    spec.name: self._converted(spec, self.columns[spec.name].read(start, stop))
                    for spec in self.specs
                },
            )

    def _converted(self, spec: TensorSpec, values: Tensor) -> Tensor:
        wanted = dtype_of(spec.dtype)
        if values.dtype == wanted:
            return values
        converted = values.to(wanted)
        if wanted.is_floating_point and not values.is_complex():
            return converted
        if values.is_floating_point() or not torch.equal(converted.to(values.dtype), values):
            raise InputError(
                f"{self.path}: expected {describe(spec)}; got {str(values.dtype).split('.')[-1]} "
                f"values that {spec.dtype} cannot hold"
            )
        return converted


def read_rows(path: Path, specs: Sequence[TensorSpec]) -> Rows:
    """Open a file and check every row of it: width, type, finite values.

    .npy and .safetensors are read a slice at a time; the other formats are held in memory.

    Args:
        path: the file; its suffix names the format.
        specs: the model's inputs. A file with one array serves a model with one input under any
            name; otherwise names must match.

    Raises:
        InputError: an unknown format, a damaged file, or bad rows (told by line or row number).
        OSError: the file cannot be read.
    """
    readers = {".npy": _npy, ".npz": _npz, ".safetensors": safetensors_columns}
    suffix = checked_suffix(path, SUFFIXES)
    lines: Sequence[int] = ()
    if suffix == ".csv":
        table, lines = read_csv(path, specs)
        columns = {specs[0].name: _column(path, specs[0].name, table)}
    elif suffix == ".json":
        arrays = read_json(path, specs)
        columns = {name: _column(path, name, array) for name, array in arrays.items()}
    else:
        path.open("rb").close()  # a missing file is an OSError whichever library reads it
        columns = readers[suffix](path)
    rows = Rows(path, specs, matched(path, specs, columns), lines)
    _check_shapes(rows)
    _check_finite(rows)
    return rows


def _npy(path: Path) -> dict[str, Column]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is not a sound .npy file: {error}") from error
    return {"": _column(path, "", array)}


def _npz(path: Path) -> dict[str, Column]:
    from zipfile import BadZipFile
    from zlib import error as ZlibError

    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return {name: _column(path, name, archive[name]) for name in archive.files}
    except (ValueError, EOFError, BadZipFile, ZlibError) as error:
        raise InputError(f"{path} is not a sound .npz file: {error}") from error


def safetensors_columns(path: Path) -> dict[str, Column]:
    """The tensors of a file by name, read a slice at a time.

    Raises:
        InputError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise InputError(f"{path} is not a sound .safetensors file: {error}") from error
    return {name: _sliced(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118


def _sliced(part: Any) -> Column:  # the slices of safetensors have no type
    def read(start: int, stop: int) -> Tensor:
        values: Tensor = part[start:stop]
        return values

    return Column(tuple(part.get_shape()), read)


def _column(path: Path, name: str, array: object) -> Column:
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: {name!r} is not an array")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: {name or 'the array'} holds {array.dtype}, not numbers")

    def read(start: int, stop: int) -> Tensor:
        part = array[start:stop]  # a copy below: torch wants it writable and in native byte order
        return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), order="C"))

    return Column(array.shape, read)


def matched(path: Path, specs: Sequence[TensorSpec], columns: dict[str, Array]) -> dict[str, Array]:
    """Arrays of a file by the input that each is for; a single one serves a single input.

    Raises:
        InputError: the names do not match.
    """
    if len(specs) == len(columns) == 1:
        return {specs[0].name: next(iter(columns.values()))}
    expected = {spec.name for spec in specs}
    if set(columns) != expected:
        got = ", ".join(sorted(columns)) if any(columns) else "one array without a name"
        raise InputError(
            f"{path}: expected an array for each of {', '.join(sorted(expected))}; got {got}"
        )
    return columns


def _check_shapes(rows: Rows) -> None:
    for spec in rows.specs:
        check_shape(rows.path, spec, rows.columns[spec.name].shape)
    counts = {name: column.shape[0] for name, column in rows.columns.items()}
    check_counts(rows.path, "inputs", counts)


def check_shape(path: Path, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """Raise unless an array `[B, ...]` of this shape fits an input.

    Raises:
        InputError: it does not.
    """
    fits = len(shape) == len(spec.shape) and all(
        size is None or size == have for size, have in zip(spec.shape[1:], shape[1:], strict=True)
    )
    if not fits:
        raise InputError(f"{path}: expected {describe(spec)}; got shape {list(shape)}")


def check_counts(path: Path, what: str, counts: Mapping[str, int]) -> None:
    """Raise unless all arrays have one number of rows, and that is not 0.

    Raises:
        InputError: they differ, or there are none.
    """
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: {what} differ in their number of rows: {dict(counts)}")
    if 0 in counts.values():
        raise InputError(f"{path} holds no rows")


def _check_finite(rows: Rows) -> None:
    bad: list[int] = []
    for start, inputs in rows.batches(SCAN):
        wrong = torch.zeros(len(next(iter(inputs.values()))), dtype=torch.bool)
        for values in inputs.values():
            wrong |= ~torch.isfinite(values).reshape(len(values), -1).all(1)
        bad += [start + row for row in wrong.nonzero().flatten().tolist()]
    if bad:
        shown = ", ".join(rows.place(row) for row in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise InputError(
            f"{rows.path}: values that are not finite (NaN, infinite or too large for the model's "
            f"type) in {shown}{more}: drop or impute them"
        )
