"""A second version of a model that comes and goes while the server is asked."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Reload:
    """Copies a version folder into the models folder, removes it, and so on, on a thread.

    Both are renames, as a deployment does it: no reader sees half of a folder.

    Attributes:
        source: the version folder to copy.
        target: where it goes: `<models>/<name>/<version>`.
        every: seconds between the changes; 0 for none at all.
        changes: how many there were.
    """

    source: Path
    target: Path
    every: float
    changes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.every:
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _turn(self) -> None:
        while not self._done.wait(self.every):
            if self.target.exists():
                self.remove()
            else:
                self.add()
            self.changes += 1

    def add(self) -> None:
        """Copy the version in."""
        # beside the models folder: on the same disk, and out of the server's sight
        whole = self.target.parents[1].with_suffix(".coming")
        shutil.copytree(self.source, whole)
        whole.rename(self.target)

    def remove(self) -> None:
        """Take the version out."""
        gone = self.target.parents[1].with_suffix(".gone")
        self.target.rename(gone)
        shutil.rmtree(gone)
