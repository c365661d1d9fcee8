"""The keys file while the server runs: read again when it changes."""

from __future__ import annotations

import asyncio
import logging
import stat
from pathlib import Path
from typing import TypeAlias

from service.access.keys import Key, read_keys
from service.errors import SettingsError

log = logging.getLogger(__name__)

_SECONDS = 1.0  # between two looks at the file
_Stamp: TypeAlias = tuple[int, int, int, int]


class KeyFile:
    """The keys in a file, as it was when it was last sound."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: tuple[Key, ...] = ()
        self._stamp: _Stamp | None = None

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that count now; none before `load`."""
        return self._keys

    def load(self) -> None:
        """Read the file.

        Raises:
            SettingsError: see `read_keys`; the keys stay what they were.
        """
        self._stamp = self._look()  # first: a change while it is read is found the next time
        self._keys = read_keys(self._path)
        if not self._keys:
            log.warning(
                "keys file %s holds no key, so all but health is refused: make one with "
                "`mcdrop key NAME --file %s`",
                self._path,
                self._path,
            )
        if self._stamp is not None and self._stamp[-1] & (stat.S_IRWXO | stat.S_IWGRP):
            log.warning(
                "keys file %s may be read or written by other users: chmod 600 %s",
                self._path,
                self._path,
            )

    def refresh(self) -> None:
        """Read the file again if it has changed; log what is wrong with it, and keep the keys."""
        if self._look() == self._stamp:
            return
        try:
            self.load()
        except SettingsError as error:
            log.error("%s; the keys stay what they were", error)  # noqa: TRY400 - it says it all
        else:
            log.info("keys file %s has changed: it holds %d keys", self._path, len(self._keys))

    async def watch(self) -> None:
        """Look at the file each second, off the event loop, until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS)
            await asyncio.to_thread(self.refresh)

    def _look(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except (OSError, ValueError):
            return None
        # a file moved into place may keep its time of change, but not its inode
        return found.st_mtime_ns, found.st_size, found.st_ino, stat.S_IMODE(found.st_mode)
