"""The settings file: TOML read into plain values, and settings written as TOML that reads back."""

from __future__ import annotations

import json
import math
import textwrap
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import ByteSize

from service.errors import SettingsError

Value: TypeAlias = str | int | float | bool | Path | list["Value"] | tuple["Value", ...]

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_HEAD = """\
# The settings in force, as `mcdrop serve --config FILE` takes them: options win over the
# environment, the environment wins over the file. Relative paths start at the working directory.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A setting as it is written down.

    Attributes:
        name: its key.
        value: None where it has no value, which leaves the key commented out.
        meaning: what it does.
        variable: its environment variable.
        origin: where the value came from.
        secret: leave the value out, so that the text may be shown around.
    """

    name: str
    value: Value | None
    meaning: str
    variable: str
    origin: str
    secret: bool = False


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        what: what the file is, for errors.

    Raises:
        SettingsError: there is no such file, it cannot be read, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML, no possible path
        said = error.strerror if isinstance(error, OSError) else f"not TOML: {error}"
        raise SettingsError(f"{what} {str(path)!r}: {said}") from None
    except RecursionError:
        raise SettingsError(f"{what} {str(path)!r}: not TOML that can be read: too deep") from None


def write_toml(entries: Iterable[Entry]) -> str:
    r"""Write settings as TOML, each under a comment with its meaning, variable and origin.

    Example:
        >>> entry = Entry("port", 8000, "TCP port", "MCDROP_PORT", "default")
        >>> print(write_toml([entry]).split("\n\n")[1], end="")
        # TCP port
        # MCDROP_PORT; default
        port = 8000
    """
    return "\n".join([_HEAD, *map(_paragraph, entries)])


def _paragraph(entry: Entry) -> str:
    lines = textwrap.wrap(entry.meaning, 97, break_long_words=False, break_on_hyphens=False)
    lines.append(f"{entry.variable}; {entry.origin}")
    if entry.value is None:
        lines.append(f"{entry.name} =")
    elif entry.secret:
        lines.append(f"{entry.name} = (secret, not shown)")
    said = "".join(f"# {line}\n" for line in lines)
    if entry.value is None or entry.secret:
        return said
    return f"{said}{entry.name} = {_literal(entry.value)}\n"


def _literal(value: Value) -> str:
    match value:
        case bool():
            return str(value).lower()
        case ByteSize():
            return _bytes(value)
        case int():
            return str(int(value))
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case _:
            # JSON's strings are TOML's but for DEL, which JSON leaves as it is
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _bytes(value: int) -> str:
    for unit, name in _UNITS:
        count, rest = divmod(value, unit)
        if count and not rest and count < 1 << 32:  # sizes are read as floats
            return f'"{count}{name}"'
    return str(int(value))
