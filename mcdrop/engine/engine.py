"""What every engine offers, and what the samples it computes look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from mcdrop.engine.plan import Plan
from mcdrop.sampling import MaskBank


class Run(Protocol):
    """Samples of some rows with one seed: any of them, in any order, as often as wanted."""

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`, in the program's order."""
        ...


class Engine(Protocol):
    """A way to compute samples. All engines give the same samples for the same bank."""

    name: str

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]) -> Run:
        """Prepare to sample rows.

        Args:
            inputs: checked tensors by name, on the engine's device.
            bank: the masks.
            rows: numbers of these rows in the caller's batch, the keys of independent masks.
        """
        ...

    def resume(self, boundary: Sequence[Any], bank: MaskBank, rows: Sequence[int]) -> Run:
        """Prepare to sample rows that have been through the trunk.

        Args:
            boundary: what `Program.run_trunk` made of them.
            bank: the masks.
            rows: as for `open`.
        """
        ...


class Sampler(Protocol):
    """Rows that are ready to be sampled in chunks of the planned size."""

    def chunks(self, start: int, stop: int) -> Iterator[range]:
        """Cut a range of samples into what is computed at a time."""
        ...

    def samples(self, chunk: range) -> tuple[Tensor, ...]:
        """Outputs of a chunk, each `[S, B, ...]`, in the program's order."""
        ...


class Source(Protocol):
    """Where a predictor's samples come from."""

    @property
    def name(self) -> str:
        """What computes the samples, in a word."""
        ...

    def plan(self, inputs: Mapping[str, Tensor], samples: int, seed: int) -> Plan:
        """How rows and samples are cut into chunks, and which engine takes which."""
        ...

    def open(
        self, plan: Plan, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]
    ) -> Sampler:
        """Prepare to sample rows; see `Engine.open`."""
        ...


@dataclass(frozen=True, slots=True)
class OneRow:
    """The first row of a run, for models that do not take one row alone."""

    run: Run

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, 1, ...]`."""
        return tuple(output[:, :1] for output in self.run.samples(start, stop))
