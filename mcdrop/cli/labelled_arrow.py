"""Columns of Arrow as arrays of numpy's; rows without a value are told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mcdrop.cli.labelled_source import Values
from mcdrop.errors import InputError

Arrow: TypeAlias = Any  # pyarrow has no types


def check_type(path: Path, field: Arrow, *, text: bool, lists: bool = False) -> None:
    """Raise unless a column holds numbers, or text where that will do, or lists of numbers.

    Raises:
        InputError: it holds something else.
    """
    from pyarrow import types

    kind = field.type
    if lists and is_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    numbers = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    if not any(fits(kind) for fits in (*numbers, *texts * text)):
        raise InputError(
            f"{path}: column {field.name!r} holds {field.type}, not numbers"
            f"{' or text' if text else ''}"
        )


def is_list(kind: Arrow) -> bool:
    """Whether a type is one of lists."""
    from pyarrow import types

    fits = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(is_one(kind) for is_one in fits)


def fixed_size(kind: Arrow) -> int | None:
    """Length of all lists of a type, if it says one."""
    from pyarrow import types

    return int(kind.list_size) if types.is_fixed_size_list(kind) else None


def list_values(
    column: Arrow, sizes: tuple[int, ...], where: str, faults: dict[int, str]
) -> Values:
    """Lists of numbers `[n, *sizes]`; rows of another length go into `faults`."""
    from pyarrow import array, compute

    width = math.prod(sizes)
    lengths = compute.fill_null(compute.list_value_length(column), -1).to_numpy()
    for row in (lengths != width).nonzero()[0].tolist():
        have = lengths[row]
        wrong = "missing" if have < 0 else f"a list of {have} values, expected {width}"
        faults.setdefault(row, f"{where} is {wrong}")
    good = (lengths == width).nonzero()[0]
    inner: dict[int, str] = {}
    kept = column.take(array(good)).flatten()
    values = plain_values(kept, "", inner)
    for at in inner:
        row, place = divmod(at, width)
        faults.setdefault(int(good[row]), f"value {place + 1} of {where} is missing")
    made = np.zeros((len(lengths), width), values.dtype)
    made[good] = values.reshape(-1, width)
    return made.reshape(-1, *sizes)


def plain_values(column: Arrow, where: str, faults: dict[int, str]) -> Values:
    """Numbers or text `[n]`; rows without a value go into `faults`."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type) or pa.types.is_float16(column.type):
        column = column.cast(pa.float64())
    if column.null_count:
        for row in column.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
            faults.setdefault(row, f"{where} is missing")
        numbers = pa.types.is_primitive(column.type)
        column = column.fill_null(pa.scalar(0).cast(column.type) if numbers else "")
    values: Values = column.to_numpy(zero_copy_only=False)
    return np.array(values)  # torch wants it writable
