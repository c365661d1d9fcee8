"""What is to be computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mcdrop.engine.plan import Plan


@dataclass(frozen=True, slots=True)
class Job:
    """Checked arguments of a prediction.

    Attributes:
        inputs: tensors by name, on the engine's device.
        samples: how many samples of each row, at most.
        seed: of the mask stream.
        first_row: number of the first row, the key of its independent masks.
        plan: how much is computed at a time.
        tolerance: standard error of the mean below which a row is done; `None` for all samples.
    """

    inputs: Mapping[str, Tensor]
    samples: int
    seed: int
    first_row: int
    plan: Plan
    tolerance: float | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next(iter(self.inputs.values())).shape[0]

    def row_chunks(self) -> Iterator[range]:
        """Positions of the rows to compute together."""
        size = self.plan.rows
        return (range(i, min(i + size, self.rows)) for i in range(0, self.rows, size))

    def part(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Some rows of the inputs."""
        if len(rows) == self.rows and rows[0] == 0 and rows[-1] == len(rows) - 1:
            return dict(self.inputs)
        if rows and rows[-1] - rows[0] == len(rows) - 1:  # neighbours, in order: no copy
            return {n: tensor[rows[0] : rows[-1] + 1] for n, tensor in self.inputs.items()}
        return {name: tensor[list(rows)] for name, tensor in self.inputs.items()}

    def numbers(self, rows: Sequence[int]) -> list[int]:
        """Numbers of rows, the keys of their independent masks."""
        return [self.first_row + row for row in rows]
