"""Keeping what is served in step with the models folder, and doing what operators ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from service.errors import ConflictError, NotReadyError, QueueFullError
from service.registry import Registry, Version
from service.repository.aside import aside
from service.repository.folders import Inventory, take_inventory
from service.repository.passes import Changes, Pass, Purpose
from service.repository.pinning import Pinning
from service.scheduler import Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

# What is gone is looked for again after so long: a folder that is being replaced is not there for
# an instant, and network file systems forget one at times.
_GRACE_SECONDS = 0.2
_MOST_WAITING = 16


class Repository:
    """The models folder, live: one pass over it at a time, and the registry says what came of it.

    What takes no time (an unload, a pin to what is loaded) waits for no pass.

    Attributes:
        registry: what is served.
        problem: why the folder could not be looked at the last time; what was loaded goes on.
        looked_at: when it was, the last time.
    """

    def __init__(self, registry: Registry, scheduler: Scheduler, settings: Settings) -> None:
        self.registry = registry
        self.problem: str | None = None
        self.looked_at: datetime | None = None
        self._scheduler = scheduler
        self._settings = settings
        self._pinning = Pinning(registry, settings.models)
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._passed_over: frozenset[str] = frozenset()

    @property
    def accepting(self) -> bool:
        """Whether anything can be loaded still."""
        return self._scheduler.accepting

    async def look(self) -> Changes:
        """Bring in step what is new, changed or gone on disk.

        Raises:
            NotReadyError: the server is stopping, or the folder cannot be read.
            QueueFullError: too many are waiting for their turn.
        """
        return await self._bring_in_step(Purpose())

    async def reload(self) -> Changes:
        """As `look`, and try again what could not be loaded.

        Raises:
            NotReadyError: the server is stopping, or the folder cannot be read.
            QueueFullError: too many are waiting for their turn.
        """
        return await self._bring_in_step(Purpose(again=True))

    async def load(self, name: str) -> Changes:
        """As `reload` for one model, also where it was unloaded.

        Raises:
            NotFoundError: there is no model of this name.
            ConflictError: its pinned or else its newest version could not be loaded.
            NotReadyError: the server is stopping, or the folder cannot be read.
            QueueFullError: too many are waiting for their turn.
        """
        changes = await self._bring_in_step(Purpose(name, again=True, wake=True))
        newest = self.registry.versions(name)[0].number
        chosen = self.registry.find(name, self.registry.pinned(name) or newest)
        if chosen.loaded is None or chosen.reason is not None:
            said = f"failed to load {name!r} version {chosen.number}: "
            said += chosen.reason or chosen.state
            answering = self.registry.find(name)
            if answering.loaded is not None:
                said += f"; version {answering.number} goes on answering as it did"
            raise ConflictError(said)
        return changes

    def unload(self, name: str) -> None:
        """Take no more requests for a model; those that have begun are finished.

        It stays so until `load` is called or its files change.

        Raises:
            NotFoundError: there is no model of this name.
        """
        for version in self.registry.versions(name):
            off = Version(version.folder, "unloaded", "unloaded", held=True)
            self.registry.put(off, instead_of=version)
        log.info("model %s is unloaded", name)

    async def pin(self, name: str, number: int) -> bool:
        """Let a version answer when none is named; it is loaded first if it is not.

        Returns:
            Whether that is on disk, and so outlives the process.

        Raises:
            NotFoundError: there is no such model or version.
            ConflictError: the version cannot be loaded; the model answers as before.
            NotReadyError: the server is stopping, or the folder cannot be read.
            QueueFullError: too many are waiting for their turn.
        """
        if self.registry.find(name, number).loaded is not None:
            return await self._pinning.set(name, number)
        async with self._turn():  # and set in it: another pass might unload what is not wanted yet
            await self._load_to_pin(name, number)
            return await self._pinning.set(name, number)

    async def unpin(self, name: str) -> bool:
        """Let the newest version answer again when none is named.

        Returns:
            As `pin`.

        Raises:
            NotFoundError: there is no model of this name.
        """
        self.registry.versions(name)
        return await self._pinning.set(name, None)

    async def _load_to_pin(self, name: str, number: int) -> None:
        work = self._pass(Purpose(name))
        for folder in (await self._look(work)).folders:
            if (folder.name, folder.number) == (name, number):
                known = self.registry.look_up(name, number)
                if known is None or known.loaded is None:
                    await work.load(known, folder)
        version = self.registry.find(name, number)
        if version.loaded is None:
            raise ConflictError(
                f"{name!r} is not pinned to version {number}, which is {version.state}: "
                f"{version.reason}"
            )

    async def _bring_in_step(self, purpose: Purpose) -> Changes:
        async with self._turn():
            work = self._pass(purpose)
            found = await self._look(work)
            for name, folders in groupby(found.folders, lambda folder: folder.name):
                if purpose.only in (None, name):
                    await work.bring(name, list(folders))
            return work.changes

    def _pass(self, purpose: Purpose) -> Pass:
        return Pass(self.registry, self._scheduler, self._settings, purpose)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise QueueFullError(f"{_MOST_WAITING} wait for their turn already; try again later")
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._lock.release()

    async def _look(self, work: Pass) -> Inventory:
        """Look at the disk, obey the pins on it, and drop what is gone from it."""
        found = await self._inventory()
        if self._gone(found):
            await asyncio.sleep(_GRACE_SECONDS)
            found = await self._inventory()
        for version in self._gone(found):
            work.drop(version)
        return found

    async def _inventory(self) -> Inventory:
        before = self._pinning.changes
        try:
            found = await aside(partial(take_inventory, self._settings.models))
        except OSError as error:
            # which is no empty folder: a volume that is away for a while unloads nothing
            problem = f"the models folder cannot be read: {error.strerror}"
            if problem != self.problem:
                log.error("%s; what is loaded is served", problem)  # noqa: TRY400 - no bug of ours
            self.problem = problem
            raise NotReadyError(f"{problem}; what is loaded is served") from None
        finally:
            self.looked_at = datetime.now(UTC)
        self.problem = None
        for said in sorted(set(found.passed_over) - self._passed_over):
            log.warning("%s", said)
        self._passed_over = frozenset(found.passed_over)
        self._pinning.follow(found.pins, before)
        return found

    def _gone(self, found: Inventory) -> list[Version]:
        there = {(folder.name, folder.number) for folder in found.folders}
        return [
            version
            for name in self.registry.names()
            for version in self.registry.versions(name)
            if (name, version.number) not in there
        ]
