"""What is served: models, their versions and states, and which version answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from service.errors import NotFoundError, NotReadyError
from service.loaded import Loaded
from service.repository.folders import Folder

State = Literal["loading", "ready", "unavailable", "unloaded"]
Readiness = Literal["loading", "ready", "unavailable"]


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version and its state; another state is another object.

        loading ──▶ ready ──▶ unloaded ──▶ loading
           └─────▶ unavailable ──▶ loading

    Attributes:
        folder: as it was when it was loaded, or tried.
        state: `unavailable` is what cannot be loaded, `unloaded` what is not to be.
        reason: why it is not ready; of a ready one: why its changed files are not what is served.
        loaded: what answers; there if, and only if, it is ready.
        loaded_at: when it became ready.
        digest: SHA-256 of the `model.json` that was loaded.
        held: it was unloaded by an operator, and stays so until told otherwise or changed.
    """

    folder: Folder
    state: State = "loading"
    reason: str | None = None
    loaded: Loaded | None = None
    loaded_at: datetime | None = None
    digest: str | None = None
    held: bool = False

    @property
    def name(self) -> str:
        """Of the model."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Of this version."""
        return self.folder.number


class Registry:
    """Models by name, each with its versions, newest first.

    Readers see a snapshot that is replaced as a whole, so that they need no lock. Only the event
    loop's thread writes.
    """

    def __init__(self, folders: Iterable[Folder] = ()) -> None:
        self._models: Mapping[str, tuple[Version, ...]] = {}
        self._pins: Mapping[str, int] = {}
        self._started = False
        for folder in folders:
            self.put(Version(folder), instead_of=None)

    def names(self) -> list[str]:
        """Names of the models in the repository, loaded or not."""
        return list(self._models)

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions of a model, newest first.

        Raises:
            NotFoundError: there is no model of this name.
        """
        models = self._models
        if name not in models:
            known = f"there are: {', '.join(models)}" if models else "the repository is empty"
            raise NotFoundError(f"there is no model {name!r}; {known}")
        return models[name]

    def look_up(self, name: str, number: int) -> Version | None:
        """One version of a model; `None` where there is no such model or version."""
        versions = self._models.get(name, ())
        return next((version for version in versions if version.number == number), None)

    def find(self, name: str, number: int | None = None) -> Version:
        """One version of a model; by default the pinned one, or else the newest that is ready.

        Where none is ready it is the newest that loads, or else the newest of all. A pin is obeyed
        also where its version cannot answer: it was set because another one should not.

        Raises:
            NotFoundError: there is no such model or version.
        """
        versions = self.versions(name)
        pinned = self._pins.get(name)
        wanted = pinned if number is None else number
        if wanted is None:
            order: tuple[State, ...] = ("ready", "loading", "unavailable", "unloaded")
            return min(versions, key=lambda version: order.index(version.state))
        version = self.look_up(name, wanted)
        if version is not None:
            return version
        if number is None:
            reason = "the model is pinned to it, but there is no such version; publish it, or unpin"
            return Version(Folder(name, wanted, Path()), "unavailable", reason)
        known = ", ".join(str(version.number) for version in versions)
        raise NotFoundError(f"model {name!r} has no version {number}; it has: {known}")

    def ready(self, name: str, number: int | None = None) -> Loaded:
        """A version that can predict.

        Raises:
            NotFoundError: there is no such model or version.
            NotReadyError: it is still loading, could not be loaded, or was unloaded.
        """
        version = self.find(name, number)
        if version.loaded is None:
            said: str = version.state
            if version.reason not in {None, said}:
                said += f": {version.reason}"
            raise NotReadyError(f"model {name!r} version {version.number} is {said}")
        return version.loaded

    def state(self) -> Readiness:
        """`loading` until every version found at the start was tried; then whether one is ready."""
        if not self._started:
            return "loading"
        states = {version.state for versions in self._models.values() for version in versions}
        if "ready" in states:
            return "ready"
        return "loading" if "loading" in states else "unavailable"

    def started(self) -> None:
        """Every version found at the start was tried."""
        self._started = True

    def pinned(self, name: str) -> int | None:
        """The version that answers when none is named; `None` where that is the newest."""
        return self._pins.get(name)

    def pin(self, name: str, number: int | None) -> None:
        """Pin the version that answers when none is named, or unpin it."""
        others = {known: pin for known, pin in self._pins.items() if known != name}
        self._pins = others if number is None else {**others, name: number}

    def put(self, version: Version, *, instead_of: Version | None) -> bool:
        """Replace a version's state, unless it is no longer the one that was looked at.

        Args:
            version: what is true now.
            instead_of: what was true; `None` for a version that was not there.

        Returns:
            Whether it was replaced.
        """
        if self.look_up(version.name, version.number) is not instead_of:
            return False
        known = self._models.get(version.name, ())
        versions = [version, *(other for other in known if other.number != version.number)]
        newest_first = tuple(sorted(versions, key=lambda other: -other.number))
        self._models = dict(sorted({**self._models, version.name: newest_first}.items()))
        return True

    def drop(self, version: Version) -> None:
        """Forget a version that is gone, and with the last one its model."""
        left = tuple(
            known for known in self._models[version.name] if known.number != version.number
        )
        models = {**self._models, version.name: left}
        if not left:
            del models[version.name]
            self.pin(version.name, None)
        self._models = models
