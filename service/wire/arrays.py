"""From arrays and from raw bytes to tensors: as strictly as from JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mcdrop.program.manifest import TensorSpec
from service.errors import InvalidRequestError
from service.wire.tensors import check_shape, place

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_KINDS = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers"}


def from_bytes(raw: bytes | memoryview, shape: Sequence[int], spec: TensorSpec) -> Tensor:
    """Turn the bytes of a tensor, little-endian and row-major, into a tensor of its own.

    Raises:
        InvalidRequestError: the shape does not fit the model, or the bytes do not fit the shape, or
            as for `from_array`.

    Example:
        >>> spec = TensorSpec(name="x", dtype="float32", shape=(None, 2))
        >>> from_bytes(np.array([1, 2.5], "<f4").tobytes(), [1, 2], spec)
        tensor([[1.0000, 2.5000]])
    """
    check_shape(shape, spec)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    size = math.prod(shape) * dtype.itemsize
    if len(raw) != size:
        raise InvalidRequestError(
            f"input {spec.name!r}: shape {list(shape)} of {spec.dtype} needs {size} bytes; "
            f"got {len(raw)}"
        )
    if dtype == torch.bfloat16:  # which NumPy does not know
        bits = np.frombuffer(raw, "<i2").astype(np.int16)
        return _finite(torch.from_numpy(bits).view(dtype).reshape(list(shape)), spec)
    little = np.dtype(spec.dtype).newbyteorder("<")
    return from_array(np.frombuffer(raw, little).reshape(list(shape)), spec)


def from_array(array: Array, spec: TensorSpec) -> Tensor:
    """Turn an array of any byte order and layout into a tensor of `spec`'s dtype; always a copy.

    Numbers are converted as those of JSON are: to floats from any number, rounded, to whole numbers
    from whole numbers only.

    Raises:
        InvalidRequestError: its shape or dtype does not fit the model, or a value is not finite or
            outside the range of the dtype.
    """
    check_shape(list(array.shape), spec)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    floating = dtype.is_floating_point
    takes = "b" if dtype == torch.bool else "fiu" if floating else "iu"
    if array.dtype.kind not in takes:
        raise InvalidRequestError(
            f"input {spec.name!r} is of {array.dtype.name}; the model takes {spec.dtype}, so send "
            f"{_KINDS[takes[0]]}"
        )
    if dtype == torch.bool:
        _check(array.view(np.uint8) > 1, array.view(np.uint8), spec)  # a byte that is no bool
        return torch.from_numpy(array.copy("C"))
    if floating:
        # as in `service.wire.tensors`: NumPy rounds a double to half once, torch by way of float32
        near = np.float64 if dtype == torch.bfloat16 else spec.dtype
        with np.errstate(over="ignore"):
            return _finite(torch.from_numpy(array.astype(near, "C")).to(dtype), spec)
    bounds = torch.iinfo(dtype)
    _check((array < bounds.min) | (array > bounds.max), array, spec)
    return torch.from_numpy(array.astype(spec.dtype, "C"))


def _finite(tensor: Tensor, spec: TensorSpec) -> Tensor:
    outside = ~torch.isfinite(tensor)
    if bool(outside.any()):
        index = int(outside.reshape(-1).nonzero()[0])
        raise InvalidRequestError(
            f"input {spec.name!r}: {place(index, tensor.shape)} is not a finite number of "
            f"{spec.dtype}; drop or impute such values"
        )
    return tensor


def _check(outside: Array, array: Array, spec: TensorSpec) -> None:
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        raise InvalidRequestError(
            f"input {spec.name!r}: {place(index, array.shape)} is {array.flat[index]}, "
            f"outside the range of {spec.dtype}"
        )
