"""The file `<models>/<name>/pin`: the number of the version that answers when none is named.

A file and not a state of the process, so that a rollback outlives a restart, reaches every server
on the same volume, and can be made by whoever deploys the folder. Where the volume is read-only,
a pin that is set over HTTP is in memory only, and the answer says so.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from pathlib import Path

PIN = "pin"
_CONTENT = re.compile(rb"\s*([1-9][0-9]{0,8})\s*")
_MOST = 64  # bytes


def read_pin(model: Path) -> int | None:
    """The pin in a model's folder; `None` without one.

    Raises:
        ValueError: the file does not hold a version, which may be because it is just being written.
        OSError: it cannot be read.
    """
    path = model / PIN
    content = b""
    try:
        if stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                content = file.read(_MOST)
    except FileNotFoundError:
        return None
    found = _CONTENT.fullmatch(content)
    if found is None:
        raise ValueError(f"{path} is to hold the number of a version, such as 1")
    return int(found[1])


def write_pin(model: Path, number: int | None) -> None:
    """Put the pin into a model's folder at once, or take it out.

    Raises:
        OSError: the folder cannot be written.
    """
    if number is None:
        if (model / PIN).exists():  # nothing to do is possible on a read-only file system, too
            (model / PIN).unlink(missing_ok=True)
        return
    written = model / f".{PIN}.{uuid.uuid4().hex}"
    try:
        with written.open("w") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        written.replace(model / PIN)
    finally:
        written.unlink(missing_ok=True)
