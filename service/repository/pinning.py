"""Which version of a model answers when none is named: set over HTTP, or on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from service.registry import Registry
from service.repository.aside import aside
from service.repository.pins import write_pin

log = logging.getLogger(__name__)


class Pinning:
    """Sets pins, and follows those on disk: the newest change counts, wherever it was made."""

    def __init__(self, registry: Registry, models: Path) -> None:
        self._registry = registry
        self._models = models
        self._lock = asyncio.Lock()
        self._on_disk: dict[str, int | None] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """How often a pin was set so far, also half way; a look at the disk before is outdated."""
        return self._changes

    async def set(self, name: str, number: int | None) -> bool:
        """Pin a model at once, or unpin it, and write that down.

        Returns:
            Whether the disk says so, too.
        """
        async with self._lock:
            self._changes += 1
            self._registry.pin(name, number)
            log.info("model %s is %s", name, f"pinned to {number}" if number else "not pinned")
            try:
                await aside(partial(write_pin, self._models / name, number))
            except OSError as error:
                log.warning("the pin of model %s is in memory only: %s", name, error.strerror)
                return False
            finally:
                self._changes += 1
            self._on_disk[name] = number
            return True

    def follow(self, pins: Mapping[str, int | None], changes: int) -> None:
        """Obey what changed on disk.

        Args:
            pins: as they were found.
            changes: what `changes` was before that.
        """
        if changes != self._changes:
            return
        served = set(self._registry.names())
        self._on_disk = {name: pin for name, pin in self._on_disk.items() if name in served}
        for name, number in pins.items():
            if number != self._on_disk.get(name):
                self._registry.pin(name, number)
                log.info("model %s is %s", name, f"pinned to {number}" if number else "not pinned")
            self._on_disk[name] = number
