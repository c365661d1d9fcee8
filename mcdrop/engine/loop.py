"""The loop engine: one whole pass after another. The oracle that every other engine is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.execute import Executable
from mcdrop.program.program import Program
from mcdrop.sampling import MaskBank


class LoopEngine:
    """Runs the whole stochastic graph once for each sample, with no vmap, and no trunk of its own.

    Args:
        program: what to sample.
    """

    name = "loop"

    def __init__(self, program: Program) -> None:
        self._program = program
        self._executable = Executable(program.stochastic, program.device)

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]) -> LoopRun:
        """Remember the rows."""
        return LoopRun(self._executable, {**inputs, **self._weights}, bank, tuple(rows))

    def resume(self, boundary: Sequence[Any], bank: MaskBank, rows: Sequence[int]) -> LoopRun:
        """Run the tail alone, sample by sample."""
        held = dict(zip(self._program.split.boundary, boundary, strict=True))
        return LoopRun(self._tail, {**held, **self._weights}, bank, tuple(rows))

    @cached_property
    def _tail(self) -> Executable:
        return Executable(self._program.tail, self._program.device)

    @cached_property
    def _weights(self) -> Mapping[str, Tensor]:
        return {name: self._program.weights[name] for name in self._program.stochastic.weights}


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
