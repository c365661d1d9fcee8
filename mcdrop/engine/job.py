"""What is to be computed, and the chunks to do it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from mcdrop.engine.plan import Plan


@dataclass(frozen=True, slots=True)
class Job:
    """Checked arguments of a prediction.

    Attributes:
        inputs: tensors by name, on the engine's device.
        samples: how many samples of each row.
        seed: of the mask stream.
        first_row: number of the first row, the key of its independent masks.
        plan: how much is computed at a time.
    """

    inputs: Mapping[str, Tensor]
    samples: int
    seed: int
    first_row: int
    plan: Plan

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next(iter(self.inputs.values())).shape[0]

    def row_chunks(self) -> Iterator[range]:
        """Positions of the rows to compute together."""
        return _chunks(self.rows, self.plan.rows)

    def sample_chunks(self, size: int) -> Iterator[range]:
        """Numbers of the samples to compute together, at most `size`."""
        return _chunks(self.samples, size)


def _chunks(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))
