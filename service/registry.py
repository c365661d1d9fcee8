"""The model repository: `<models>/<name>/<version>/`, and the state of everything in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mcdrop
from mcdrop.errors import ArtifactError
from service.errors import NotFoundError, NotReadyError, StartError
from service.fields import field_specs
from service.loaded import Loaded
from service.scheduler import Scheduler

log = logging.getLogger(__name__)

State = Literal["loading", "ready", "unavailable"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(slots=True, eq=False)
class Version:
    """One folder of the repository; `reason` says why it is unavailable."""

    name: str
    number: int
    path: Path
    state: State = "loading"
    reason: str | None = None
    loaded: Loaded | None = None


def scan(root: Path, *, warn: bool = True) -> list[Version]:
    """List the version folders under `root`, by name, newest first; nothing is loaded.

    Args:
        root: the models folder.
        warn: log what is passed over; that is also logged where it leaves nothing.

    Raises:
        StartError: there is no such folder, or no model in it.
    """
    make = "make the demo models with `mcdrop demo --output models`, or set MCDROP_MODELS"
    if not root.is_dir():
        raise StartError(f"the models folder {root} does not exist; {make}")
    versions: list[Version] = []
    passed_over: list[str] = []
    try:
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                versions += _scan_model(folder, passed_over)
    except OSError as error:
        raise StartError(f"the models folder {root} cannot be read: {error.strerror}") from None
    for said in passed_over if warn or not versions else ():
        log.warning("%s", said)
    if not versions:
        hint = ""
        if (root / "model.json").exists() or next(root.glob("*/model.json"), None):
            hint = "; model.json lies too high up"
        raise StartError(
            f"the models folder {root} holds no <name>/<version>/ folder, "
            f"such as digits/1{hint}; {make}"
        )
    return versions


def _scan_model(folder: Path, passed_over: list[str]) -> list[Version]:
    if not _NAME.fullmatch(folder.name):
        passed_over.append(
            f"{folder} is passed over: not a model name (letters, digits, '.', '_', '-')"
        )
        return []
    numbers = [
        int(entry.name)
        for entry in folder.iterdir()
        if _VERSION.fullmatch(entry.name) and entry.is_dir()
    ]
    if not numbers:
        passed_over.append(f"{folder} is passed over: no version folder such as {folder}/1")
    return [
        Version(folder.name, number, folder / str(number))
        for number in sorted(numbers, reverse=True)
    ]


class Registry:
    """Models by name, each with its versions, newest first."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self._models: dict[str, list[Version]] = {}
        for version in versions:
            self._models.setdefault(version.name, []).append(version)

    def names(self) -> list[str]:
        """Names of the models in the repository, loaded or not."""
        return list(self._models)

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, newest first.

        Raises:
            NotFoundError: there is no model of this name.
        """
        if name not in self._models:
            known = ", ".join(self._models)
            raise NotFoundError(f"there is no model {name!r}; there are: {known}")
        return self._models[name]

    def find(self, name: str, number: int | None = None) -> Version:
        """One version of a model; by default the newest that is not unavailable.

        Raises:
            NotFoundError: there is no such model or version.
        """
        versions = self.versions(name)
        if number is None:
            sound = (version for version in versions if version.state != "unavailable")
            return next(sound, versions[0])
        for version in versions:
            if version.number == number:
                return version
        known = ", ".join(str(version.number) for version in versions)
        raise NotFoundError(f"model {name!r} has no version {number}; it has: {known}")

    def ready(self, name: str, number: int | None = None) -> Loaded:
        """A version that can predict.

        Raises:
            NotFoundError: there is no such model or version.
            NotReadyError: it is still loading, or it could not be loaded.
        """
        version = self.find(name, number)
        if version.loaded is None:
            said = f"{version.state}: {version.reason}" if version.reason else version.state
            raise NotReadyError(f"model {name!r} version {version.number} is {said}")
        return version.loaded

    def state(self) -> State:
        """`loading` until every version was tried, then `ready` if one of them can predict."""
        states = {version.state for versions in self._models.values() for version in versions}
        if "loading" in states:
            return "loading"
        return "ready" if "ready" in states else "unavailable"

    async def load(self, scheduler: Scheduler, *, memory_budget: int) -> None:
        """Load every version on the scheduler's device; what cannot be loaded is put on record."""
        for versions in self._models.values():
            for version in versions:
                await _load(version, scheduler, memory_budget)
        everything = [version for versions in self._models.values() for version in versions]
        loaded = sum(version.state == "ready" for version in everything)
        if loaded:
            log.info("ready: %d of %d model versions loaded", loaded, len(everything))
        else:
            log.error("no model could be loaded; GET /v1/models gives the reasons")


async def _load(version: Version, scheduler: Scheduler, memory_budget: int) -> None:
    label = f"{version.name}/{version.number}"

    def read() -> tuple[mcdrop.MCDropout, ...]:
        return tuple(
            mcdrop.load(version.path, device=device, memory_budget=memory_budget)
            for device in scheduler.devices
        )

    try:
        predictors = (await scheduler.run(read)).value
    except ArtifactError as error:
        version.reason = _without_folder(str(error), version.path, label)
        version.state = "unavailable"
        log.error("model %s is unavailable: %s", label, error)  # noqa: TRY400 - no bug of ours
        return
    except Exception:
        version.reason = "it failed to load; the server's log says more"
        version.state = "unavailable"
        log.exception("model %s is unavailable", label)
        return
    manifest = predictors[0].manifest
    assert manifest is not None
    if (manifest.name, manifest.version) != (version.name, version.number):
        log.warning(
            "model %s was saved as %s/%d; it is served under its folder's name",
            label, manifest.name, manifest.version,
        )  # fmt: skip
    version.loaded = Loaded(
        version.name,
        version.number,
        predictors,
        tuple(predictor.residency() for predictor in predictors),
        manifest,
        field_specs(manifest),
    )
    version.state = "ready"
    log.info("model %s is ready on %s", label, ", ".join(map(str, scheduler.devices)))


def _without_folder(reason: str, path: Path, label: str) -> str:
    """A reason for callers, who have no business with the server's folders."""
    # resolved first: a relative path is a part of it
    return reason.replace(str(path.resolve()), label).replace(str(path), label)
