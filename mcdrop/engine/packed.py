"""The packed engine: one sample after another, each as its own small network, weights packed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from mcdrop.engine.kept import Kept
from mcdrop.engine.parts import Parts, Values, bytes_of
from mcdrop.engine.team import Team
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.program.execute import Executable
from mcdrop.program.kernels import KERNELS
from mcdrop.program.packing import PACKED_KERNELS, can_pack, packed
from mcdrop.program.program import Program
from mcdrop.sampling import BLOCK, MaskBank

_Block = tuple[Values, ...]
# Of units. oneDNN compiles a product for each of its shapes, and remembers about a thousand: with
# as many shapes as samples, each number of rows that is new would be compiled for again and again.
_MULTIPLE = 32


class PackedEngine:
    """Computes samples one after another, each as the smaller network that its masks leave of it.

    What the thinned engine does for many samples at a time, padded to the largest of them, this one
    does for each with about as many units as it has; and the weights lie in the order in which
    products read them. Both take long to make, so it is for samples that come again: the first
    ones of a seed. On CPUs alone: on a GPU one sample does not fill the device.

    Args:
        program: what to sample.
        thinned: what it does sample by sample.
        memory_budget: bytes; half of them may be kept.

    Attributes:
        team: whose threads take samples side by side; without one, torch's share each product.
    """

    name = "packed"

    def __init__(self, program: Program, thinned: ThinnedEngine, memory_budget: int) -> None:
        self._program = program
        self._thinned = thinned
        self._budget = memory_budget
        self.team: Team | None = None

    @property
    def obstacle(self) -> str | None:
        """Why it does not apply, if it does not."""
        if not self._thinned.applies:
            return "there is no site to thin"
        if self._program.device.type != "cpu":
            return "it is for CPUs"
        gathered = {part.weight for part in self._thinned.thinning.gathered}
        if any(self._program.weights[name].dtype != torch.float32 for name in gathered):
            return "it is for float32"
        return None if can_pack() else "this build of torch has no packed products"

    @property
    def fits(self) -> bool:
        """Whether all that is to be kept may be."""
        return 2 * self._thinned.gather_bytes(self._thinned.kept_samples) <= self._budget

    def forget(self) -> None:
        """Give up what is kept."""
        self._packs.forget()

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]) -> PackedRun:
        """Run the trunk."""
        return self.resume(self._program.run_trunk(inputs), bank, rows)

    def resume(
        self,
        boundary: Sequence[Any],
        bank: MaskBank,
        rows: Sequence[int],  # noqa: ARG002 (the protocol's; rows share their masks)
    ) -> PackedRun:
        """Take up what the trunk left."""
        held = self._thinned.held(boundary)
        return PackedRun(self._tail, held, self._packs, bank, self._thinned.masked, self.team)

    @cached_property
    def _tail(self) -> Executable:
        kernels = {**KERNELS, **PACKED_KERNELS}
        return Executable(self._thinned.thinning.graph, self._program.device, kernels)

    @cached_property
    def _packs(self) -> Packs:
        matrices = {p.name for p in self._thinned.thinning.gathered if p.form == "matrix"}
        kept_samples = self._thinned.kept_samples
        return Packs(self._thinned.parts, matrices, kept_samples, self._budget // 2)


class Packs:
    """Makes what each sample reads of the weights, and keeps it for a seed's first samples.

    Args:
        parts: what is gathered.
        matrices: names of those that are packed.
        kept_samples: of how many samples something may be kept.
        limit: bytes that may be kept.
    """

    def __init__(
        self, parts: Parts, matrices: Collection[str], kept_samples: int, limit: int
    ) -> None:
        self._parts = parts
        self._matrices = matrices
        self._kept_samples = kept_samples
        self._kept: Kept[_Block] = Kept(limit, _bytes)
        self._lock = Lock()

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept."""
        return self._kept.bytes

    def forget(self) -> None:
        """Give up what is kept."""
        with self._lock:
            self._kept.clear()

    def samples(self, bank: MaskBank, wanted: range) -> Iterator[Values]:
        """What each of some samples reads, by name."""
        start = wanted.start
        while start < wanted.stop:
            first = start - start % BLOCK
            part = range(start, min(wanted.stop, first + BLOCK))
            if first + BLOCK > self._kept_samples:
                yield from self._make(bank, part)
            else:
                block = self._block(bank, range(first, first + BLOCK))
                yield from block[part.start - first : part.stop - first]
            start = part.stop

    def _block(self, bank: MaskBank, samples: range) -> _Block:
        """Blocks are made whole: what is kept is the same for any part that is asked for."""
        with self._lock:
            block = self._kept.of(bank).get(samples)
            if block is None:
                block = tuple(self._make(bank, samples))
                self._kept.keep(bank, samples, block)
            return block

    def _make(self, bank: MaskBank, samples: range) -> Iterator[Values]:
        drawn = bank.draw(samples, (0,))
        for place in range(len(samples)):
            made = self._parts.make([m[place : place + 1] for m in drawn], {}, _MULTIPLE)
            yield {
                name: packed(value[0]) if name in self._matrices else value[0]
                for name, value in made.items()
            }


@dataclass(frozen=True, slots=True)
class PackedRun:
    """The boundary values of some rows, to be taken through each sample's own network.

    Attributes:
        tail: the thinned tail, for one sample.
        held: its inputs and weights that are the same for all samples.
        packs: its inputs that are each sample's own.
        bank: the masks.
        masked: masks that it reads as they are, and their positions in the bank.
        team: whose threads take samples side by side.
    """

    tail: Executable
    held: Mapping[str, Any]
    packs: Packs
    bank: MaskBank
    masked: Mapping[str, int]
    team: Team | None

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`."""
        wanted = range(start, stop)
        masks = self.bank.draw(wanted, (0,)) if self.masked else []
        read = [
            {mask: masks[position][place] for mask, position in self.masked.items()}
            for place in range(len(wanted))
        ]
        own = self.packs.samples(self.bank, wanted)
        each = [{**self.held, **a, **b} for a, b in zip(own, read, strict=True)]
        passes = map(self._sample, each) if self.team is None else self.team.map(self._sample, each)
        return tuple(torch.stack(outputs) for outputs in zip(*passes, strict=True))

    @torch.no_grad()
    def _sample(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return self.tail(values)


def _bytes(block: _Block) -> int:
    return sum(map(bytes_of, block))
