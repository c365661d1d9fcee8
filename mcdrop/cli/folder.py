"""A folder of results: checked before the work, made and written file by file at its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcdrop.errors import InputError


def check_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Say early what would fail late; nothing is made yet.

    Args:
        folder: where the files go; it need not be there.
        names: of the files.
        force: replace those that are there.

    Raises:
        InputError: a file is in the place of the folder, or there already; or the folder cannot be
            made or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder for {' and '.join(names)}")
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise InputError(
            f"{folder} holds {' and '.join(there)} already: choose another folder, or replace "
            "them with --force"
        )
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(f"{folder}: {nearest} is a file: name a folder elsewhere")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: nothing can be made in {nearest}")


def publish(folder: Path, files: Mapping[str, str]) -> None:
    """Make the folder if need be, and write the files; each appears whole.

    Raises:
        OSError: one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        aside = folder / f".{name}.{os.getpid()}.part"
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(folder / name)
        finally:
            aside.unlink(missing_ok=True)
