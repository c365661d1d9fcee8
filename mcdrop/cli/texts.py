"""Rows written as text, CSV and JSON: parsed into arrays, bad rows told by where they are."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import describe

SHOWN = 5


def read_csv(
    path: Path, specs: Sequence[TensorSpec]
) -> tuple[NDArray[np.generic], tuple[int, ...]]:
    """One row a line, flattened in row-major order; blank lines and a heading are skipped.

    Returns:
        The array `[B, ...]` and the line number of each row.

    Raises:
        InputError: rows of the wrong width or with a cell that is not a number, with line numbers;
            or the model takes more than one input, or one whose axes vary.
    """
    sizes = row_sizes(path, specs)
    values, lines, problems = _parsed(path, math.prod(sizes), specs[0])
    _refuse(path, problems)
    if not values:
        raise InputError(f"{path} holds no rows")
    return _array(path, specs[0], values).reshape(len(values), *sizes), tuple(lines)


def row_sizes(path: Path, specs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Shape of a row of the one input that a CSV holds.

    Raises:
        InputError: the model takes more than one input, or one whose axes vary.
    """
    if len(specs) > 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputError(f"{path}: a CSV holds one input, the model takes {names}: use .npz")
    sizes = tuple(size for size in specs[0].shape[1:] if size is not None)
    if len(sizes) < len(specs[0].shape) - 1:
        raise InputError(
            f"{path}: a CSV holds rows of one width, {describe(specs[0])} varies: use .npz"
        )
    return sizes


def open_csv(path: Path) -> TextIO:
    """A CSV opened as the `csv` module wants it: UTF-8, with or without a byte order mark."""
    return path.open(newline="", encoding="utf-8-sig")


def csv_rows(path: Path, file: TextIO) -> Generator[tuple[int, list[str]]]:
    """Pairs (line number, cells) of the rows that are not blank, one at a time.

    Raises:
        InputError: the file is not a CSV in UTF-8.
    """
    reader = csv.reader(file)
    try:
        for cells in filter(None, reader):  # a blank line has no cells
            yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV: {error}") from error


def read_json(path: Path, specs: Sequence[TensorSpec]) -> dict[str, NDArray[np.generic]]:
    """A list of rows, `{input name: list of rows}`, or a request body with either in `"inputs"`.

    Raises:
        InputError: not JSON, or rows that do not fit, with row numbers counted from 0.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if isinstance(body, dict) and "inputs" in body and "inputs" not in {s.name for s in specs}:
        body = body["inputs"]
    if isinstance(body, list) and len(specs) == 1:
        body = {specs[0].name: body}
    names = [spec.name for spec in specs]
    if not isinstance(body, dict) or set(body) != set(names):
        raise InputError(f"{path}: expected a list of rows for each of {', '.join(names)}")
    arrays = {}
    for spec in specs:
        rows = body[spec.name]
        if not isinstance(rows, list) or not rows:
            raise InputError(f"{path}: expected a list of rows for {spec.name!r}, at least one")
        arrays[spec.name] = _rows(path, spec, rows)
    return arrays


def _parsed(
    path: Path, width: int, spec: TensorSpec
) -> tuple[list[list[float]], list[int], list[str]]:
    """Good rows, their line numbers, and what is wrong with the others."""
    parse: Callable[[str], float] = float if "float" in spec.dtype else int
    values: list[list[float]] = []
    lines: list[int] = []
    problems: list[str] = []
    begun = False
    with open_csv(path) as file:
        for line, cells in csv_rows(path, file):
            first, begun = not begun, True
            if first and _is_heading(cells):
                continue
            problem = _cells(cells, width, parse, values)
            if problem is None:
                lines.append(line)
            else:
                problems.append(f"line {line} {problem}")
    return values, lines, problems


def _is_heading(cells: list[str]) -> bool:
    """Whether no cell is a number: a line of names. One cell that is not is a bad row."""
    return not any(is_number(cell) for cell in cells)


def is_number(cell: str) -> bool:
    """Whether a cell is a number, `nan` and `inf` among them."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _cells(
    cells: list[str], width: int, parse: Callable[[str], float], values: list[list[float]]
) -> str | None:
    """Append the parsed cells, or say what is wrong with them."""
    if len(cells) != width:
        return f"has {len(cells)} values, expected {width}"
    row = []
    for column, cell in enumerate(cells, start=1):
        try:
            row.append(parse(cell))
        except ValueError:
            wanted = "a whole number" if parse is int else "a number"
            return f"value {column} is {cell.strip()!r}, not {wanted}"
    if not all(map(math.isfinite, row)):
        column = next(i for i, value in enumerate(row, start=1) if not math.isfinite(value))
        return f"value {column} is {row[column - 1]}"
    values.append(row)
    return None


def _rows(path: Path, spec: TensorSpec, rows: list[Any]) -> NDArray[np.generic]:
    problems: list[str] = []
    arrays: list[NDArray[np.generic]] = []
    for number, row in enumerate(rows):
        try:
            array = np.asarray(row)
        except ValueError:
            problems.append(f"row {number} is ragged")
            continue
        problem = _misfit(array, spec.shape[1:])
        if problem is None and arrays and array.shape != arrays[0].shape:
            problem = f"has shape {list(array.shape)}, unlike the rows before it"
        if problem is None:
            arrays.append(array)
        else:
            problems.append(f"row {number} {problem}")
    _refuse(path, problems, f" (rows are counted from 0; expected {describe(spec)})")
    return np.stack(arrays)


def _misfit(array: NDArray[np.generic], shape: Sequence[int | None]) -> str | None:
    if array.dtype.kind not in "fiub":
        return "holds something that is not a number"
    if array.ndim != len(shape) or any(
        size not in (None, have) for size, have in zip(shape, array.shape, strict=True)
    ):
        return f"has shape {list(array.shape)}"
    return None


def _array(path: Path, spec: TensorSpec, values: list[list[float]]) -> NDArray[np.generic]:
    try:
        return np.array(values, dtype=np.float64 if "float" in spec.dtype else np.int64)
    except OverflowError as error:
        raise InputError(f"{path}: a value is too large for {spec.dtype}") from error


def _refuse(path: Path, problems: list[str], note: str = "") -> None:
    if not problems:
        return
    shown = "; ".join(problems[:SHOWN])
    more = f"; and {len(problems) - SHOWN} more rows" if len(problems) > SHOWN else ""
    raise InputError(f"{path}: {shown}{more}{note}")
