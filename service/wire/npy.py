"""Arrays as NumPy's .npy files: read without trust, and written."""

from __future__ import annotations

import ast
import io
import math
import re
from typing import Any

import numpy as np

from service.errors import MalformedBodyError
from service.wire.arrays import Array

NPY = "application/x-npy"

_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: 2, 2: 4, 3: 4}  # bytes that hold the header's length, by version of the format
_LONGEST = 4096  # header
_DEEPEST = 16  # axes
_MOST = 2**63  # elements along one of them
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")


def read_npy(body: bytes) -> Array:
    """Read a .npy file of numbers; the array is a view of the body.

    NumPy's own reader allocates what a header claims before it looks at the data. Here headers are
    short, and held against the size of the body first.

    Raises:
        MalformedBodyError: it is no such file, or ends too early, or goes on after its end.

    Example:
        >>> read_npy(write_npy(np.eye(2, dtype=np.int8)))
        array([[1, 0],
               [0, 1]], dtype=int8)
    """
    if len(body) < 8 or body[:6] != _MAGIC or body[6] not in _LENGTHS or body[7] != 0:
        raise MalformedBodyError("the body is no .npy file, such as numpy.save writes")
    begin = 8 + _LENGTHS[body[6]]
    end = begin + int.from_bytes(body[8:begin], "little")
    if end > len(body) or end - begin > _LONGEST:
        raise MalformedBodyError(
            f"the .npy file's header has {end - begin} bytes; expected {_LONGEST} at most, "
            "and all of them in the body"
        )
    dtype, fortran, shape = _read_header(body[begin:end])
    size = math.prod(shape) * dtype.itemsize
    if len(body) - end != size:
        raise MalformedBodyError(
            f"the .npy file's shape {list(shape)} of {dtype.name} needs {size} bytes of data; "
            f"got {len(body) - end}"
        )
    flat = np.frombuffer(body, dtype, offset=end)
    return flat.reshape(shape, order="F" if fortran else "C")


def write_npy(array: Array) -> bytes:
    """Write an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read_header(text: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        header = ast.literal_eval(text.decode("latin-1"))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that it raises
        header = None
    match header:
        case {"descr": str(descr), "fortran_order": bool(fortran), "shape": tuple(shape)} if (
            len(header) == 3
        ):
            pass
        case _:
            raise MalformedBodyError(
                "the .npy file's header cannot be read; expected descr, fortran_order and shape "
                "of an array of numbers"
            )
    if not _DTYPE.fullmatch(descr):
        raise MalformedBodyError(
            f"the .npy file's dtype is {descr!r:.80}; send an array of bool, of integers, or "
            "of floats up to float64"
        )
    sizes = all(type(size) is int and 0 <= size < _MOST for size in shape)
    if not sizes or len(shape) > _DEEPEST:
        raise MalformedBodyError(
            f"the .npy file's shape is none; expected up to {_DEEPEST} sizes, such as (8, 4)"
        )
    return np.dtype(descr), fortran, shape
