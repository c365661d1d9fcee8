"""From a version's folder to a model that can predict."""

from __future__ import annotations

import gc
import hashlib
import logging
from functools import partial
from pathlib import Path

from mcdrop.engine.memory import is_out_of_memory
from mcdrop.errors import ArtifactError
from mcdrop.loading import Stored, opened, read
from service.errors import NotReadyError, UnloadableError
from service.fields import field_specs
from service.loaded import Loaded
from service.repository.aside import aside
from service.repository.folders import Folder, stamp
from service.repository.warmup import warm
from service.scheduler import Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)


async def load(folder: Folder, scheduler: Scheduler, settings: Settings) -> Loaded:
    """Read a version beside everything else, then open and warm it up on the device's thread.

    What computes takes turns with the requests: a device has one thread, and a CUDA graph that is
    being recorded suffers no other.

    Raises:
        UnloadableError: it cannot be loaded; the message is for callers to read.
        NotReadyError: the server is stopping.
    """
    label = f"{folder.name}/{folder.number}"
    try:
        stored = await aside(partial(_read, folder))
        predictors = []
        for worker, device in enumerate(scheduler.devices):
            open_ = partial(opened, stored, device=device, memory_budget=settings.memory_budget)
            predictors.append((await scheduler.run(open_, worker=worker)).value)
        manifest = stored.manifest
        if (manifest.name, manifest.version) != (folder.name, folder.number):
            log.warning(
                "model %s was saved as %s/%d; it is served under its folder's name",
                label, manifest.name, manifest.version,
            )  # fmt: skip
        loaded = Loaded(
            folder.name,
            folder.number,
            tuple(predictors),
            tuple(p.residency(t) for p, t in zip(predictors, scheduler.teams, strict=True)),
            manifest,
            field_specs(manifest),
        )
        await warm(loaded, scheduler, settings)
        # What is alive now stays: the collector need not go through it again and again, which takes
        # tenths of a second. A model that is replaced still goes with its last reference.
        gc.freeze()
    except (UnloadableError, NotReadyError):
        raise
    except ArtifactError as error:
        raise UnloadableError(_without_folder(str(error), folder.path, label)) from None
    except Exception as error:
        log.exception("model %s cannot be loaded", label)
        if is_out_of_memory(error):
            raise UnloadableError("the device has no memory left for it") from None
        raise UnloadableError("it failed to load; the server's log says more") from None
    return loaded


def manifest_digest(folder: Path) -> str | None:
    """SHA-256 of `model.json`, which has that of every other file in it; `None` without one."""
    path = folder / "model.json"
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _read(folder: Folder) -> Stored:
    stored = read(folder.path)
    if stamp(folder.path) != folder.stamp:
        raise UnloadableError("its files changed while they were read")
    return stored


def _without_folder(reason: str, path: Path, label: str) -> str:
    """A reason for callers, who have no business with the server's folders."""
    # resolved first: a relative path is a part of it
    return reason.replace(str(path.resolve()), label).replace(str(path), label)
