"""API keys: making one, the entry that stands for it in the keys file, finding it again.

A key is 256 random bits, so the file holds its SHA-256 and no slow hash: those protect passwords,
which can be guessed. Nobody guesses 256 bits, however quickly each guess is checked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from service.access.limits import Rate
from service.config import read_toml
from service.errors import SettingsError

MARK = "mcdrop_"  # lets scanners for leaked secrets recognise a key
MOST_KEYS = 1000  # every request is compared with each
KEY = re.compile(rf"{MARK}[A-Za-z0-9_-]{{43}}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class KeyScope(StrEnum):
    """What a key may do: `read` is predictions and metadata, `admin` everything."""

    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that the server knows, by its digest.

    Attributes:
        name: for people; the log says it.
        scope: what it may do.
        digest: SHA-256 of the key.
        rate: how often it may predict; None leaves that to the server's `rate_limit`.
    """

    name: str
    scope: KeyScope
    digest: bytes = field(repr=False)
    rate: Rate | None = None

    def may(self, scope: KeyScope) -> bool:
        """Whether the key has this scope."""
        return self.scope is KeyScope.ADMIN or self.scope is scope


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    scope: KeyScope
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
    rate_limit: float | None = Field(default=None, gt=0)
    rate_burst: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _a_burst_of_a_rate(self) -> _Entry:
        if self.rate_burst is not None and self.rate_limit is None:
            raise ValueError("rate_burst needs a rate_limit beside it")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: dict[Annotated[str, Field(pattern=rf"^{_NAME.pattern}\z")], _Entry] = Field(
        default_factory=dict, max_length=MOST_KEYS
    )


def new_key() -> str:
    """A key that nobody has: 256 bits of the system's randomness."""
    return MARK + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    """What the server keeps of a key."""
    return hashlib.sha256(key.encode(errors="replace")).digest()


def find_key(keys: Iterable[Key], presented: str) -> Key | None:
    """The key that was presented.

    Takes the same work whether and where it is found: the time says nothing about the keys.
    """
    digest, found = digest_of(presented), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key  # and on to the last one
    return found


def key_entry(
    name: str, key: str, scope: KeyScope, rate_limit: float | None, rate_burst: int | None
) -> str:
    """The lines of the keys file that stand for a key.

    Raises:
        SettingsError: the name cannot be one, or the rate.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"a key's name has 1 to 64 letters, digits, - and _ in it; got {name!r}"
        )
    lines = [f"[keys.{name}]", f'scope = "{scope}"', f'sha256 = "{digest_of(key).hex()}"']
    if rate_limit is not None:
        lines.append(f"rate_limit = {rate_limit!r}")
    if rate_burst is not None:
        lines.append(f"rate_burst = {rate_burst}")
    entry = "\n".join(lines) + "\n"
    try:
        _File.model_validate(tomllib.loads(entry))
    except ValidationError as error:
        said = "; ".join(map(_describe, error.errors(include_input=False)))
        raise SettingsError(f"there can be no such key: {said}") from None
    return entry


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a keys file.

    Raises:
        SettingsError: it cannot be read, or an entry is not sound; no value is repeated.
    """
    return _checked(path, read_toml(path, "keys file"))


def _checked(path: Path, content: dict[str, Any]) -> tuple[Key, ...]:
    try:
        entries = _File.model_validate(content).keys
    except ValidationError as error:
        said = "; ".join(map(_describe, error.errors(include_input=False)))
        raise SettingsError(f"keys file {str(path)!r}: {said}") from None
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        if entry.sha256 in owners:
            raise SettingsError(
                f"keys file {str(path)!r}: {owners[entry.sha256]} and {name} are the same key; "
                "remove one, or make another with `mcdrop key`"
            )
        owners[entry.sha256] = name
    return tuple(_key(name, entry) for name, entry in entries.items())


def _key(name: str, entry: _Entry) -> Key:
    rate = None if entry.rate_limit is None else Rate.of(entry.rate_limit, entry.rate_burst)
    return Key(name, entry.scope, bytes.fromhex(entry.sha256), rate)


def _describe(error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["loc"][-1:] == ("sha256",) and error["type"] == "string_pattern_mismatch":
        return f"{where}: expected the 64 hexadecimal digits that `mcdrop key` prints, not the key"
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such entry"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
