"""The loop engine: one whole pass after another. The oracle that every other engine is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.engine.plan import Plan, footprint
from mcdrop.program.execute import Executable
from mcdrop.program.program import Program
from mcdrop.sampling import MaskBank, Masks, MaskStream


class LoopEngine:
    """Runs the whole stochastic graph once for each sample, with no trunk and no vmap.

    Args:
        program: what to sample.
        masks: shared across rows or independent.
    """

    name = "loop"

    def __init__(self, program: Program, masks: Masks) -> None:
        self._program = program
        self._masks: Masks = masks
        self._executable = Executable(program.stochastic, program.device)

    def plan(self, inputs: Mapping[str, Tensor]) -> Plan:
        """All rows, one sample at a time."""
        return Plan(next(iter(inputs.values())).shape[0], 1)

    def open(self, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]) -> LoopRun:
        """Remember the rows."""
        program = self._program
        shapes = footprint(program, inputs, self._masks).shapes
        bank = MaskBank(MaskStream(seed), program.active, shapes, self._masks, program.device)
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
            masks = self.bank.draw([sample], self.rows)
            named = {s.mask: m[0] for s, m in zip(self.bank.sites, masks, strict=True)}
            passes.append(self.executable({**self.values, **named}))
        return tuple(torch.stack(outputs) for outputs in zip(*passes, strict=True))
