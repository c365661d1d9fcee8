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
        memory_budget: bytes that the tensors of a pass may take.
    """

    name = "loop"

    def __init__(self, program: Program, masks: Masks, memory_budget: int = 1 << 30) -> None:
        self._program = program
        self._masks: Masks = masks
        self._budget = memory_budget
        self._executable = Executable(program.stochastic, program.device)

    def plan(self, inputs: Mapping[str, Tensor]) -> Plan:
        """As many rows as fit the budget, one sample at a time."""
        rows = next(iter(inputs.values())).shape[0]
        cost = footprint(self._program, inputs, self._masks)
        return Plan(cost.plan(rows, self._budget, self._program.device).rows, 1)

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
