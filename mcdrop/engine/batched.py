"""The batched engine: the trunk once, then `vmap` of the tail over explicit masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop.engine.graphs import CudaRecorder, Graphs
from mcdrop.program.execute import Executable
from mcdrop.program.kernels import KERNELS
from mcdrop.program.leading import LEADING_KERNELS, samples_can_lead
from mcdrop.program.program import Program
from mcdrop.sampling import MaskBank


class BatchedEngine:
    """Computes what no site reaches once, and the rest for a chunk of samples at a time.

    Args:
        program: what to sample.
    """

    name = "batched"

    def __init__(self, program: Program) -> None:
        self._program = program
        held = {name: program.weights[name] for name in program.tail.weights}
        # what the trunk leaves has no sample axis; its rank does not matter here
        held.update(dict.fromkeys(program.split.boundary, torch.empty(0)))
        self._leads = samples_can_lead(program.tail, held)
        kernels = {**KERNELS, **LEADING_KERNELS} if self._leads else KERNELS
        self._tail = Executable(program.tail, program.device, kernels)
        cuda = program.device.type == "cuda"
        self._chunk = Graphs(self._run_tail, CudaRecorder()) if cuda else self._run_tail

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]) -> BatchedRun:
        """Run the trunk."""
        return self.resume(self._program.run_trunk(inputs), bank, rows)

    def resume(self, boundary: Sequence[Any], bank: MaskBank, rows: Sequence[int]) -> BatchedRun:
        """Take up what the trunk left."""
        return BatchedRun(self._chunk, tuple(boundary), bank, tuple(rows))

    def _run_tail(self, *values: Any) -> tuple[Tensor, ...]:
        """The tail for boundary values and then masks, these with a leading axis S."""
        split, program = self._program.split, self._program
        held = {name: program.weights[name] for name in split.tail.weights}
        held.update(zip(split.boundary, values, strict=False))
        names = [site.mask for site in program.active]

        masks = values[len(split.boundary) :]
        if self._leads:
            return self._tail({**held, **dict(zip(names, masks, strict=True))})

        def sample(*masks: Tensor) -> tuple[Any, ...]:
            return self._tail({**held, **dict(zip(names, masks, strict=True))})

        outputs: tuple[Tensor, ...] = torch.func.vmap(sample)(*masks)
        return outputs


@dataclass(frozen=True, slots=True)
class BatchedRun:
    """The boundary values of some rows, and the masks to take the tail through."""

    tail: Callable[..., tuple[Tensor, ...]]
    boundary: tuple[Any, ...]
    bank: MaskBank
    rows: tuple[int, ...]

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`."""
        return self.tail(*self.boundary, *self.bank.draw(range(start, stop), self.rows))
