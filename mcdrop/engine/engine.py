"""What every engine offers, and what it shares with the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mcdrop.engine.plan import Plan


class Run(Protocol):
    """Samples of some rows with one seed: any of them, in any order, as often as wanted."""

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`, in the program's order."""
        ...


@dataclass(frozen=True, slots=True)
class OneRow:
    """The first row of a run, for models that do not take one row alone."""

    run: Run

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, 1, ...]`."""
        return tuple(output[:, :1] for output in self.run.samples(start, stop))


class Engine(Protocol):
    """A way to compute samples. All engines give the same samples for the same seed."""

    name: str

    def plan(self, inputs: Mapping[str, Tensor]) -> Plan:
        """How many rows and samples at a time fit the memory budget."""
        ...

    def open(self, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]) -> Run:
        """Prepare to sample rows.

        Args:
            inputs: checked tensors by name, on the engine's device.
            seed: of the mask stream.
            rows: numbers of these rows in the caller's batch, the keys of independent masks.
        """
        ...
