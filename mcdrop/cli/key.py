"""`mcdrop key`: make an API key for the server."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Scope(StrEnum):
    """What a key may do."""

    read = "read"
    admin = "admin"


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, - and _.")],
    scope: Annotated[
        Scope, typer.Option(help="read: predictions and metadata; admin: everything.")
    ] = Scope.read,
    rate_limit: Annotated[
        float | None,
        typer.Option(help="Predictions a second; the server's MCDROP_RATE_LIMIT by default."),
    ] = None,
    rate_burst: Annotated[
        int | None, typer.Option(help="Predictions at once; those of a second by default.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Keys file to append the entry to; made if there is none."),
    ] = None,
) -> None:
    r"""Make an API key, and the entry of the keys file that stands for it.

    The key itself goes to stdout and nowhere else: it cannot be shown again, as
    the file holds a hash of it. A running server reads a changed file within
    about a second. Take a key back by removing its entry.

    Examples:
      mcdrop key alice --file keys.toml
      mcdrop key ci --scope admin --file keys.toml
      mcdrop key batch --rate-limit 5 --rate-burst 20 --file keys.toml
      mcdrop serve --api-keys keys.toml
      curl -H "Authorization: Bearer $KEY" localhost:8000/v1/models
    """
    from mcdrop.errors import McdropError

    try:
        from service.access import keys
    except ModuleNotFoundError as error:
        raise McdropError(
            f"keys need {error.name}, which is not installed: pip install 'mcdrop[service]'"
        ) from error
    made = keys.new_key()
    entry = keys.key_entry(
        name, made, keys.KeyScope(scope.value), rate_limit=rate_limit, rate_burst=rate_burst
    )
    if file is None:
        typer.echo(f"the entry for the keys file, then the key:\n\n{entry}", err=True)
    else:
        if file.exists() and any(known.name == name for known in keys.read_keys(file)):
            raise McdropError(
                f"{file} has a key {name!r}: choose another name, or remove its entry"
            )
        _append(file, entry)
        typer.echo(f"appended [keys.{name}] to {file}; the key:", err=True)
    typer.echo(made)


def _append(file: Path, entry: str) -> None:
    """Append, in one write; a new file is for its owner only."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as opened:
        before = opened.read()
        gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
        opened.write(gap + entry.encode())
