"""The end of a file's name, which says its format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mcdrop.errors import InputError

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")


def checked_suffix(path: Path, known: Sequence[str], *, output: bool = False) -> str:
    """The suffix in lower case, one of those that are known.

    Args:
        path: of the file; only its name is looked at.
        known: suffixes.
        output: whether it is to be written, not read.

    Raises:
        InputError: it is another.

    Example:
        >>> checked_suffix(Path("Rows.CSV"), (".csv", ".npz"))
        '.csv'
    """
    suffix = path.suffix.lower()
    if suffix in known:
        return suffix
    expected = f"{path}: expected one of {', '.join(known)}; got {suffix or 'no suffix'!r}"
    if suffix in _COMPRESSED:
        todo = "compress the answers later" if output else f"unpack it first, to {path.stem}"
        expected += f", and compressed files are not {'written' if output else 'read'}: {todo}"
    raise InputError(expected)
