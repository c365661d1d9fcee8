"""One pass over the repository: from what is on disk to what is served."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

from service.errors import UnloadableError
from service.registry import Registry, Version
from service.repository.aside import aside
from service.repository.folders import Folder
from service.repository.loading import load, manifest_digest
from service.scheduler import Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, int]

NOT_WANTED = "MCDROP_VERSIONS leaves it out"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a pass is for.

    Attributes:
        only: the one model that it is about.
        again: whether what could not be loaded is tried again, though nothing changed.
        wake: whether what an operator unloaded is loaded, though nothing changed.
    """

    only: str | None = None
    again: bool = False
    wake: bool = False

    def leaves(self, known: Version, folder: Folder) -> bool:
        """Whether a version that should be there stays as it is."""
        if known.folder.stamp != folder.stamp or known.state == "loading":
            return False
        if known.state == "unloaded":
            return known.held and not self.wake
        return known.reason is None or not self.again


@dataclass(slots=True)
class Changes:
    """What a pass changed, by model and version; `failed` says why."""

    loaded: list[Key] = field(default_factory=list)
    reloaded: list[Key] = field(default_factory=list)
    unloaded: list[Key] = field(default_factory=list)
    failed: dict[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pass:
    """Loads, reloads and unloads versions one after another, and keeps what it changed.

    A version gets into the registry when it can predict, as a whole and at once. It replaces only
    what is still as the pass found it: an unload in between is not undone.
    """

    registry: Registry
    scheduler: Scheduler
    settings: Settings
    purpose: Purpose = Purpose()
    changes: Changes = field(default_factory=Changes)

    async def bring(self, name: str, folders: Sequence[Folder]) -> None:
        """Bring a model in step with its folders, which come newest first; a pinned one is first.

        Older versions go when as many as are to be loaded can predict, so that a broken new version
        takes nothing away.
        """
        pinned = self.registry.pinned(name)
        ready = 0
        for folder in sorted(folders, key=lambda folder: folder.number != pinned):
            known = self._known(folder)
            most = self.settings.most_versions
            if folder.number != pinned and most is not None and ready >= most:
                self._leave_out(known, folder)
                continue
            if known is None or not self.purpose.leaves(known, folder):
                known = await self.load(known, folder)
            ready += folder.number != pinned and known is not None and known.state == "ready"

    async def load(self, known: Version | None, folder: Folder) -> Version | None:
        """Load a version anew; what answers until then is what answers if that fails.

        Returns:
            What is there now.
        """
        key = folder.name, folder.number
        digest = await aside(partial(manifest_digest, folder.path))
        if known is not None and known.loaded is not None and digest == known.digest:
            self.registry.put(replace(known, folder=folder, reason=None), instead_of=known)
            return self._known(folder)
        begun = known
        if known is None or known.loaded is None:
            begun = Version(folder)
            if not self.registry.put(begun, instead_of=known):
                return self._known(folder)
        try:
            loaded = await load(folder, self.scheduler, self.settings)
        except UnloadableError as error:
            self._fail(begun, folder, str(error))
            return self._known(folder)
        now = Version(folder, "ready", loaded=loaded, loaded_at=datetime.now(UTC), digest=digest)
        if self.registry.put(now, instead_of=begun):
            anew = begun is not None and begun.loaded is not None
            (self.changes.reloaded if anew else self.changes.loaded).append(key)
            log.info(
                "model %s/%d is ready on %s", *key, ", ".join(map(str, self.scheduler.devices))
            )
        return self._known(folder)

    def drop(self, version: Version) -> None:
        """Forget a version whose folder is gone."""
        self.registry.drop(version)
        self.changes.unloaded.append((version.name, version.number))
        log.info("model %s/%d is gone", version.name, version.number)

    def _fail(self, begun: Version | None, folder: Folder, reason: str) -> None:
        assert begun is not None
        if begun.loaded is None:
            now = Version(folder, "unavailable", reason)
            said = "is unavailable"
        else:
            why = f"its files changed, and are not served: {reason}"
            now = replace(begun, folder=folder, reason=why)
            said = "goes on as it was"
        if self.registry.put(now, instead_of=begun):
            self.changes.failed[folder.name, folder.number] = reason
            log.error("model %s/%d %s: %s", folder.name, folder.number, said, reason)

    def _leave_out(self, known: Version | None, folder: Folder) -> None:
        woken = known is not None and known.held and self.purpose.wake
        if known is not None and known.state == "unloaded" and not woken:
            return
        if self.registry.put(Version(folder, "unloaded", NOT_WANTED), instead_of=known) and (
            known is not None and known.loaded is not None
        ):
            self.changes.unloaded.append((folder.name, folder.number))
            log.info("model %s/%d is unloaded: %s", folder.name, folder.number, NOT_WANTED)

    def _known(self, folder: Folder) -> Version | None:
        return self.registry.look_up(folder.name, folder.number)
