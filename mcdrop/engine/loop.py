"""The loop engine: one whole pass after another. The oracle that every other engine is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.program.execute import Executable
from mcdrop.program.program import Program
from mcdrop.sampling import MaskBank


class LoopEngine:
    """Runs the whole stochastic graph once for each sample, with no trunk and no vmap.

    Args:
        program: what to sample.
    """

    name = "loop"

    def __init__(self, program: Program) -> None:
        self._program = program
        self._executable = Executable(program.stochastic, program.device)

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]) -> LoopRun:
        """Remember the rows."""
        program = self._program
        weights = {name: program.weights[name] for name in program.stochastic.weights}
        return LoopRun(self._executable, {**inputs, **weights}, bank, tuple(rows))


@dataclass(frozen=True, slots=True)
class LoopRun:
    """Rows, and the masks to take them through."""

    executable: Executable
    values: Mapping[str, Tensor]
    bank: MaskBank
    rows: tuple[int, ...]

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`."""
        passes = []
        for sample in range(start, stop):
            masks = self.bank.draw(range(sample, sample + 1), self.rows)
            named = {s.mask: m[0] for s, m in zip(self.bank.sites, masks, strict=True)}
            passes.append(self.executable({**self.values, **named}))
        return tuple(torch.stack(outputs) for outputs in zip(*passes, strict=True))
