"""Predictions to a file: .npz, .csv or .json, written batch by batch and published in one step."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import signal
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

import numpy as np
from torch import Tensor

from mcdrop.cli.suffix import checked_suffix
from mcdrop.errors import InputError

SUFFIXES = (".npz", ".csv", ".json")
LABEL = "predicted"

Fields = Mapping[str, Tensor]


class Writer(Protocol):
    """Takes batches of fields, each `[B, ...]`."""

    def write(self, fields: Fields) -> None:
        """Append a batch."""

    def finish(self) -> None:
        """Complete the file."""


@contextmanager
def answers(path: Path, classes: Sequence[str] | None, *, force: bool) -> Iterator[Writer]:
    """Open a writer whose file appears under `path` only when the context ends well.

    Args:
        path: the file; its suffix names the format.
        classes: names for the `predicted` field, in CSV and JSON.
        force: replace an existing file.

    Raises:
        InputError: see `check_output`.
        OSError: the file cannot be written.
        SystemExit: with 143 on SIGTERM; nothing is left behind then, either.
    """
    check_output(path, force=force)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with ExitStack() as stack:
        stack.enter_context(_leaving_on_sigterm())
        stack.callback(aside.unlink, missing_ok=True)
        file = stack.enter_context(aside.open("xb"))
        writer: Writer
        match path.suffix.lower():
            case ".npz":
                writer = _Npz(file, stack)
            case ".csv":
                writer = _Csv(file, classes)
            case _:
                writer = _Json(file, classes)
        yield writer
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
        aside.replace(path)


def check_output(path: Path, *, force: bool) -> None:
    """Say early what would fail late.

    Raises:
        InputError: an unknown format, a folder, the file exists and `force` is not set, or no file
            can be made in its folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it, such as {path / 'answers.csv'}")
    checked_suffix(path, SUFFIXES, output=True)
    if path.exists() and not force:
        raise InputError(f"{path} exists: choose another file, or replace it with --force")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(
            f"{path}: no file can be made in {path.parent}: {error.strerror}"
        ) from error


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    """Leave through the `finally`s on SIGTERM, which ends a process at once by default."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Npz:
    """An array for each field; values wait on disk, so memory does not grow with the rows."""

    def __init__(self, file: IO[bytes], stack: ExitStack) -> None:
        self._file = file
        self._stack = stack
        self._spools: dict[str, IO[bytes]] = {}
        self._arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self._rows = 0

    def write(self, fields: Fields) -> None:
        for name, tensor in fields.items():
            array = np.ascontiguousarray(tensor.numpy(force=True))
            if name not in self._spools:
                spool = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                self._spools[name] = spool
                self._arrays[name] = (array.dtype, array.shape[1:])
            self._spools[name].write(array.tobytes())
        self._rows += len(next(iter(fields.values())))

    def finish(self) -> None:
        with zipfile.ZipFile(self._file, "w") as archive:
            for name, spool in self._spools.items():
                dtype, shape = self._arrays[name]
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (self._rows, *shape),
                }
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(spool, member)


class _Csv:
    """A line for each row; a field with an axis becomes `mean_0`, `mean_1`, ..., or `mean_cat`."""

    def __init__(self, file: IO[bytes], classes: Sequence[str] | None) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._classes = classes
        self._started = False

    def write(self, fields: Fields) -> None:
        if not self._started:
            self._writer.writerow(self._heading(fields))
            self._started = True
        columns = []
        for name, tensor in fields.items():
            digits = _digits(tensor)
            flat = tensor.reshape(len(tensor), -1).tolist()
            columns.append([[_cell(value, digits) for value in row] for row in flat])
            if name == LABEL and self._classes:
                columns[-1] = [[self._classes[value] for value in row] for row in flat]
        for parts in zip(*columns, strict=True):
            self._writer.writerow([cell for part in parts for cell in part])

    def finish(self) -> None:
        self._text.detach()

    def _heading(self, fields: Fields) -> list[str]:
        names = []
        for name, tensor in fields.items():
            if tensor.ndim > 2:
                raise InputError(
                    f"the field {name!r} has shape {list(tensor.shape)}, too deep for a CSV: "
                    "use .npz"
                )
            if tensor.ndim == 1 or tensor.shape[1] == 1:
                names.append(name)
                continue
            count = tensor.shape[1]
            named = self._classes is not None and len(self._classes) == count
            names += [
                f"{name}_{self._classes[i] if named and self._classes else i}" for i in range(count)
            ]
        return names


class _Json:
    """A list with an object for each row, a row a line; what is not finite is null."""

    def __init__(self, file: IO[bytes], classes: Sequence[str] | None) -> None:
        self._file = file
        self._classes = classes
        self._row = 0

    def write(self, fields: Fields) -> None:
        columns = {}
        for name, tensor in fields.items():
            digits = _digits(tensor)
            columns[name] = [_plain(value, digits) for value in tensor.tolist()]
            if name == LABEL and self._classes and tensor.ndim == 1:
                columns[name] = [self._classes[value] for value in tensor.tolist()]
        for parts in zip(*columns.values(), strict=True):
            row = {"row": self._row, **dict(zip(columns, parts, strict=True))}
            self._file.write(b",\n" if self._row else b"[\n")
            self._file.write(json.dumps(row, allow_nan=False, ensure_ascii=False).encode())
            self._row += 1

    def finish(self) -> None:
        self._file.write(b"\n]\n")


def _digits(tensor: Tensor) -> int:
    """Significant digits that bring every value of the tensor's type back exactly."""
    return 17 if tensor.element_size() == 8 else 9


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _plain(value: Any, digits: int) -> Any:  # nested lists of numbers
    if isinstance(value, list):
        return [_plain(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
