"""The model repository as it lies on disk: `<models>/<name>/<version>/`, and each model's pin."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from service.errors import StartError
from service.repository.pins import read_pin

log = logging.getLogger(__name__)

# of each file: name, inode, size, time of the last change
Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Folder:
    """A version of a model on disk; it has changed when its `stamp` has."""

    name: str
    number: int
    path: Path
    stamp: Stamp = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a look at the disk found; nothing was loaded.

    Attributes:
        folders: by name, newest first.
        pins: of each model whose pin can be told; `None` for no pin.
        passed_over: what is not served, and why, for the log.
    """

    folders: tuple[Folder, ...]
    pins: Mapping[str, int | None]
    passed_over: tuple[str, ...]


def take_inventory(root: Path) -> Inventory:
    """Look at the models folder: names and `stat` only, which any file system has.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    folders: list[Folder] = []
    pins: dict[str, int | None] = {}
    passed_over: list[str] = []
    for model in sorted(root.iterdir()):
        if model.name.startswith(".") or not model.is_dir():
            continue
        if not _NAME.fullmatch(model.name):
            passed_over.append(
                f"{model} is passed over: not a model name (letters, digits, '.', '_', '-')"
            )
            continue
        found = sorted(_versions(model), key=lambda folder: -folder.number)
        if not found:
            passed_over.append(f"{model} is passed over: no version folder such as {model}/1")
            continue
        folders += found
        try:
            pins[model.name] = read_pin(model)
        except (ValueError, OSError) as error:
            passed_over.append(f"a pin is passed over: {error}")
    return Inventory(tuple(folders), pins, tuple(passed_over))


def scan(root: Path) -> tuple[Folder, ...]:
    """The version folders that a server starts with, by name, newest first.

    What is passed over is logged only where that leaves nothing; the repository does otherwise.

    Raises:
        StartError: there is no such folder, or no model in it.
    """
    make = "make the demo models with `mcdrop demo --output models`, or set MCDROP_MODELS"
    if not root.is_dir():
        raise StartError(f"the models folder {root} does not exist; {make}")
    try:
        found = take_inventory(root)
    except OSError as error:
        raise StartError(f"the models folder {root} cannot be read: {error.strerror}") from None
    if not found.folders:
        for said in found.passed_over:
            log.warning("%s", said)
        hint = ""
        if (root / "model.json").exists() or next(root.glob("*/model.json"), None):
            hint = "; model.json lies too high up"
        raise StartError(
            f"the models folder {root} holds no <name>/<version>/ folder, "
            f"such as digits/1{hint}; {make}"
        )
    return found.folders


def stamp(folder: Path) -> Stamp:
    """What tells that a folder's files were changed, replaced or swapped behind a link.

    The inode is among it: a file that is renamed into place may be as old and as large as the one
    before. Hidden files are not: file systems and ConfigMaps keep their own affairs in them.
    """
    return tuple(sorted(_files(folder)))


def _versions(model: Path) -> Iterator[Folder]:
    try:
        entries = list(model.iterdir())
    except FileNotFoundError:  # it vanished between two looks
        return
    for entry in entries:
        if _VERSION.fullmatch(entry.name) and entry.is_dir():
            yield Folder(model.name, int(entry.name), entry, stamp(entry))


def _files(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    seen = entry.stat()  # of what a link leads to
                except OSError:  # nowhere, or in a circle: no reason to see no other model
                    continue
                if stat.S_ISREG(seen.st_mode):
                    yield entry.name, seen.st_ino, seen.st_size, seen.st_mtime_ns
    except FileNotFoundError:
        return
