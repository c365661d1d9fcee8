"""The batched engine: the trunk once, then `vmap` of the tail over explicit masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop.engine.plan import Footprint, Plan, footprint
from mcdrop.program.execute import Executable
from mcdrop.program.program import Program
from mcdrop.program.schema import dtype_of
from mcdrop.sampling import MaskBank, Masks, MaskStream

_REMEMBERED = 1024  # shapes of input whose footprints are kept


class BatchedEngine:
    """Computes what no site reaches once, and the rest for a chunk of samples at a time.

    Args:
        program: what to sample.
        masks: shared across rows or independent.
        memory_budget: bytes that the tensors of a chunk may take.
    """

    name = "batched"

    def __init__(self, program: Program, masks: Masks, memory_budget: int) -> None:
        self._program = program
        self._masks: Masks = masks
        self._budget = memory_budget
        self._trunk = Executable(program.trunk, program.device)
        self._tail = Executable(program.tail, program.device)
        self._footprints: dict[tuple[tuple[int, ...], ...], Footprint] = {}

    def plan(self, inputs: Mapping[str, Tensor]) -> Plan:
        """Chunks within the memory budget."""
        rows = next(iter(inputs.values())).shape[0]
        return self._footprint(inputs).plan(rows, self._budget, self._program.device)

    def open(self, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]) -> BatchedRun:
        """Run the trunk."""
        program = self._program
        weights = {name: program.weights[name] for name in program.trunk.weights}
        boundary = self._trunk({**inputs, **weights})
        bank = MaskBank(
            MaskStream(seed),
            program.active,
            self._footprint(inputs).shapes,
            self._masks,
            program.device,
        )
        held = {name: program.weights[name] for name in program.tail.weights}
        held.update(zip(program.split.boundary, boundary, strict=True))
        return BatchedRun(self._tail, held, bank, tuple(rows))

    def works(self) -> bool:
        """Whether vmap can take the tail, tried on two rows of zeros and two samples."""
        program = self._program
        inputs = {
            spec.name: torch.zeros(
                (2, *spec.smallest()), dtype=dtype_of(spec.dtype), device=program.device
            )
            for spec in program.inputs
        }
        try:
            with torch.no_grad():
                self.open(inputs, 0, range(2)).samples(0, 2)
        except (RuntimeError, NotImplementedError):
            return False
        except IndexError:
            return True  # zeros are not what the model takes; vmap had no objection so far
        return True

    def _footprint(self, inputs: Mapping[str, Tensor]) -> Footprint:
        key = tuple(tuple(tensor.shape[1:]) for tensor in inputs.values())
        if key not in self._footprints:
            if len(self._footprints) >= _REMEMBERED:
                self._footprints.clear()
            self._footprints[key] = footprint(self._program, inputs, self._masks)
        return self._footprints[key]


@dataclass(frozen=True, slots=True)
class BatchedRun:
    """The boundary values of some rows, and the masks to take the tail through."""

    tail: Executable
    held: Mapping[str, Any]
    bank: MaskBank
    rows: tuple[int, ...]

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`."""
        names = [site.mask for site in self.bank.sites]

        def sample(*masks: Tensor) -> tuple[Any, ...]:
            return self.tail({**self.held, **dict(zip(names, masks, strict=True))})

        masks = self.bank.draw(range(start, stop), self.rows)
        outputs: tuple[Tensor, ...] = torch.func.vmap(sample)(*masks)
        return outputs
