"""Arrays of an .npz, read out of the archive row by row: never a whole one."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np

from mcdrop.cli.labelled_source import Values
from mcdrop.errors import InputError

Read: TypeAlias = Callable[[str, int, int], Values]
"""Rows of an array by its name, from the first on, in native byte order and writable."""


@dataclass(frozen=True, slots=True)
class Member:
    """An array of a file.

    Attributes:
        scattered: whether its rows cannot be read one after the other.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scattered: bool = False


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Tell what zipfile, zlib and numpy find wrong as an InputError."""
    damage = (ValueError, EOFError, BadZipFile, ZlibError, NotImplementedError, RuntimeError)
    try:
        yield
    except InputError:
        raise
    except damage as error:
        raise InputError(f"{path} is not a sound .npz file: {error}") from error


def npz_members(path: Path) -> dict[str, Member]:
    """The arrays of an archive by name, judged by their headers.

    Raises:
        InputError: the archive is damaged.
    """
    found = {}
    with _sound(path), ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                with archive.open(info) as stream:
                    shape, fortran, dtype = _header(stream, info)
                    scattered = fortran and info.compress_type != ZIP_STORED
                    found[_name(info)] = Member(shape, dtype, scattered)
    return found


def _name(info: ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _header(stream: IO[bytes], info: ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type; the stream then stands at the values."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:  # for records with names beyond Latin-1
        raise ValueError(f"version {version} of the array format")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    have, wanted = info.file_size - stream.tell(), math.prod(shape) * dtype.itemsize
    if have != wanted and not dtype.hasobject:
        raise ValueError(f"{_name(info)!r} has {have} bytes of values, {wanted} by its header")
    return shape, fortran and len(shape) > 1, dtype


@contextmanager
def npz_reader(path: Path, names: Sequence[str]) -> Iterator[Read]:
    """Read arrays out of the archive in order, without holding more than is asked for.

    Raises:
        InputError: the archive is damaged, here or in a later read.
    """
    with ExitStack() as stack:
        readers: dict[str, Callable[[int, int], Values]] = {}
        with _sound(path):
            archive = stack.enter_context(ZipFile(path))
            for name in names:
                readers[name] = _member_reader(path, archive, archive.getinfo(f"{name}.npy"), stack)

        def read(name: str, start: int, stop: int) -> Values:
            with _sound(path):
                return readers[name](start, stop)

        yield read


def _member_reader(
    path: Path, archive: ZipFile, info: ZipInfo, stack: ExitStack
) -> Callable[[int, int], Values]:
    stream = stack.enter_context(archive.open(info))
    shape, fortran, dtype = _header(stream, info)
    native = dtype.newbyteorder("=")
    if fortran:  # rows are spread over all of it
        begin = _begin(path, info) + stream.tell()
        mapped = np.memmap(path, dtype, "r", begin, shape, "F")
        return lambda start, stop: mapped[start:stop].astype(native, order="C")
    size = math.prod(shape[1:]) * dtype.itemsize

    def read(start: int, stop: int) -> Values:
        data = stream.read((stop - start) * size)
        if len(data) < (stop - start) * size:
            raise EOFError(f"{_name(info)!r} ends before row {stop - 1}")
        values = np.frombuffer(data, dtype).reshape(stop - start, *shape[1:])
        return values.astype(native)

    return read


def _begin(path: Path, info: ZipInfo) -> int:
    """Where in the file a member that is not compressed begins."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths of its name and of what zip adds to it
        name, extra = struct.unpack("<HH", file.read(4))
    return int(info.header_offset + 30 + name + extra)
