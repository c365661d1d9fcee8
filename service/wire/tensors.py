"""From JSON values to tensors: strictly, and at tens of millions of numbers a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
import torch
from torch import Tensor

from mcdrop.program.manifest import TensorSpec
from service.errors import InvalidRequestError


def from_nested(value: object, spec: TensorSpec) -> Tensor:
    """Turn nested lists with the batch axis outermost into a tensor of `spec`'s dtype.

    Raises:
        InvalidRequestError: ragged or misshapen lists, or a value that is no number of that dtype.

    Example:
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> from_nested([[1, 2.5]], spec)
        tensor([[1.0000, 2.5000]])
    """
    if not isinstance(value, list):
        raise InvalidRequestError(
            f"input {spec.name!r}: expected nested lists of shape {describe_shape(spec)}, "
            f"got {_describe(value)}"
        )
    shape, flat = _flatten(value, spec.name, depth=len(spec.shape) + 1)
    check_shape(shape, spec)
    return _to_tensor(flat, shape, spec)


def from_row_major(data: list[Any], shape: Sequence[int], spec: TensorSpec) -> Tensor:
    """Turn `data`, flat in row-major order or nested, into a tensor of the declared `shape`.

    Raises:
        InvalidRequestError: the shape does not fit the model or the data, or as for `from_nested`.
    """
    check_shape(shape, spec)
    got, flat = _flatten(data, spec.name, depth=len(shape) + 1)
    if list(got) != list(shape) and list(got) != [math.prod(shape)]:
        raise InvalidRequestError(
            f"input {spec.name!r}: shape {list(shape)} needs {math.prod(shape)} values, flat in "
            f"row-major order or nested in that shape; data has shape {list(got)}"
        )
    return _to_tensor(flat, shape, spec)


def check_shape(shape: Sequence[int], spec: TensorSpec) -> None:
    """Compare a shape with what the model takes; the batch axis must hold a row at least.

    Raises:
        InvalidRequestError: they differ.
    """
    fits = len(shape) == len(spec.shape)
    for axis, (got, expected) in enumerate(zip(shape, spec.shape, strict=False)):
        low, high = spec.ranges.get(axis, (1, 2**31))
        fits &= low <= got <= high if expected is None else got == expected
    if fits:
        return
    hint = ""
    if shape[:1] == [0]:
        hint = "; send one row at least"
    elif list(shape) == list(spec.shape[1:]):
        hint = "; the first axis counts rows: put a single row into a list of its own"
    raise InvalidRequestError(
        f"input {spec.name!r}: expected shape {describe_shape(spec)}, got {list(shape)}{hint}"
    )


def describe_shape(spec: TensorSpec) -> str:
    """Write a shape for people, e.g. `[rows, 1, 8, 8]` or `[rows, 1..512]`."""
    axes = ["rows"]
    for axis, size in enumerate(spec.shape[1:], start=1):
        low, high = spec.ranges.get(axis, (1, None))
        free = f"{low}.." if high is None else f"{low}..{high}"
        axes.append(free if size is None else str(size))
    return f"[{', '.join(axes)}]"


def place(index: int, shape: Sequence[int]) -> str:
    """Write where in an array its element number `index` is, e.g. `[0][3]`."""
    where = np.unravel_index(index, tuple(shape))
    return "".join(f"[{int(i)}]" for i in where)


def _flatten(value: list[Any], name: str, *, depth: int) -> tuple[list[int], list[Any]]:
    """Take the lists apart level by level: the shape, and the leaves in row-major order."""
    shape, level = [len(value)], value
    while list in (kinds := set(map(type, level))):
        lengths = {len(item) for item in level} if kinds == {list} else set()
        if len(lengths) != 1:
            raise InvalidRequestError(_describe_ragged(level, shape, name))
        if len(shape) == depth:
            raise InvalidRequestError(f"input {name!r}: lists are nested more than {depth} deep")
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return shape, level


def _describe_ragged(level: list[Any], shape: list[int], name: str) -> str:
    def size(item: object) -> int:
        return len(item) if isinstance(item, list) else -1

    odd = next(index for index, item in enumerate(level) if size(item) != size(level[0]))
    return (
        f"input {name!r} is ragged: {place(odd, shape)} is {_describe(level[odd])}, but "
        f"{place(0, shape)} is {_describe(level[0])}"
    )


def _to_tensor(flat: list[Any], shape: Sequence[int], spec: TensorSpec) -> Tensor:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    allowed, wanted = _leaf_types(dtype)
    if not set(map(type, flat)) <= allowed:
        index = next(i for i, leaf in enumerate(flat) if type(leaf) not in allowed)
        raise InvalidRequestError(
            f"input {spec.name!r}: {place(index, shape)} is {_describe(flat[index])}; "
            f"the model takes {spec.dtype}, so send {wanted}"
        )
    if dtype.is_floating_point:
        # NumPy rounds a double to half once, torch by way of float32
        source = np.float64 if dtype == torch.bfloat16 else spec.dtype
        # what NumPy can do, it does: torch would let go of the interpreter, and wait for it again
        with np.errstate(over="ignore"):
            array = np.array(flat, source).reshape(shape)
        tensor = torch.from_numpy(array)
        if tensor.dtype != dtype:
            tensor = tensor.to(dtype)
        finite = np.isfinite(array) if dtype != torch.bfloat16 else torch.isfinite(tensor).numpy()
        if finite.all():
            return tensor
        outside = ~finite
    elif dtype == torch.bool:
        return torch.tensor(flat, dtype=dtype).reshape(list(shape))
    else:
        bounds = torch.iinfo(dtype)
        whole = _whole(flat)
        excess = (whole < bounds.min) | (whole > bounds.max)
        outside = excess.astype(bool)
        within = np.where(excess, 0, whole).astype(np.int64).reshape(shape)
        tensor = torch.from_numpy(within).to(dtype)
    if outside.any():
        index = int(outside.argmax())
        raise InvalidRequestError(
            f"input {spec.name!r}: {place(index, shape)} is {flat[index]!r}, "
            f"outside the range of {spec.dtype}"
        )
    return tensor


def _whole(flat: list[int]) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        return np.array(flat, np.int64)
    except (
        OverflowError
    ):  # 2^63 and above, which orjson reads too: compared as Python's own integers
        return np.array(flat, object)


def _leaf_types(dtype: torch.dtype) -> tuple[set[type], str]:
    if dtype == torch.bool:
        return {bool}, "true or false"
    if dtype.is_floating_point:
        return {int, float}, "numbers"
    return {int}, "whole numbers without a decimal point"


def _describe(item: object) -> str:
    """Name a value in JSON's words."""
    if isinstance(item, list):
        return f"a list of {len(item)}"
    return "an object" if isinstance(item, dict) else f"{orjson.dumps(item).decode():.40}"
