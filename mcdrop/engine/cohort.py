"""Cohorts: rows of many callers that share their masks, held between steps and sampled together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mcdrop.engine.boundary import BoundaryLayout, find_layout
from mcdrop.engine.entrance import Entrance, FromBoundary, FromInputs
from mcdrop.engine.planner import Planner
from mcdrop.engine.sampler import ProgramSampler
from mcdrop.program.measure import META
from mcdrop.program.schema import LookupErrors


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows that have been through the trunk; or, where those cannot be joined, their inputs.

    Attributes:
        parts: what is known of each row, rows first.
        constants: what is the same for all.
    """

    parts: tuple[Tensor, ...]
    constants: tuple[Any, ...] = ()

    def rows(self, some: slice) -> Prepared:
        """Some of the rows."""
        return replace(self, parts=tuple(part[some] for part in self.parts))


class Trunk:
    """Takes rows of one shape through a program's trunk, so that they can be joined afterwards.

    Args:
        planner: of the program.
        inputs: of the shape; only shapes are read.
    """

    def __init__(self, planner: Planner, inputs: Mapping[str, Tensor]) -> None:
        self.planner = planner
        self.like = {name: torch.empty_like(t[:1], device=META) for name, t in inputs.items()}
        sizes = {name: tensor.shape[1:] for name, tensor in inputs.items()}
        self.layout: BoundaryLayout | None = find_layout(planner.program, sizes)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Prepared:
        """Prepare rows, as many at a time as fit the memory.

        Args:
            inputs: checked tensors by name, on the program's device.

        Raises:
            InputError: an input is outside of what the model can look up.
        """
        if self.layout is None:
            return Prepared(tuple(inputs.values()))
        rows = len(next(iter(inputs.values())))
        size = self.planner.fitting_rows(inputs)
        if size >= rows:
            return self._run(self.layout, inputs)
        chunks = [
            self._run(self.layout, {n: t[start : start + size] for n, t in inputs.items()})
            for start in range(0, rows, size)
        ]
        parts = zip(*(chunk.parts for chunk in chunks), strict=True)
        return Prepared(tuple(torch.cat(part) for part in parts), chunks[0].constants)

    @torch.no_grad()
    def _run(self, layout: BoundaryLayout, inputs: Mapping[str, Tensor]) -> Prepared:
        program = self.planner.program
        alone = len(next(iter(inputs.values()))) == 1 and not program.takes_one_row
        if alone:
            inputs = {name: torch.cat((tensor, tensor)) for name, tensor in inputs.items()}
        with LookupErrors(), self.planner.arithmetic():
            boundary = program.run_trunk(inputs)
        parts = layout.cut(boundary)
        return Prepared(tuple(p[:1] for p in parts) if alone else parts, layout.constants(boundary))

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """Of the inputs, the rows left out."""
        return tuple(tuple(tensor.shape[1:]) for tensor in self.like.values())

    def most_rows(self, limit: int) -> int:
        """How many rows can be sampled together, for want of memory fewer than the limit."""
        return self.planner.footprint(self.like).rows(limit, self.planner.memory_budget)

    def entrance(self, prepared: Prepared) -> Entrance:
        """A way into the engines."""
        if self.layout is None:
            return FromInputs(dict(zip(self.like, prepared.parts, strict=True)))
        return FromBoundary(self.layout, prepared.parts, prepared.constants)


class Cohort:
    """Rows with one seed and one shape of input: any of them can be taken through any samples.

    Rows are known by slots, small numbers that are used again when a row has left.

    Args:
        trunk: what the rows have come through.
        seed: of their masks.
        repeated: whether the seed comes again and again, so that what is made of it is kept.
    """

    def __init__(self, trunk: Trunk, seed: int, *, repeated: bool) -> None:
        self._trunk = trunk
        self._bank = trunk.planner.bank(trunk.like, seed)
        self._repeated = repeated
        self._parts: tuple[Tensor, ...] = ()  # [slots, ...]
        self._constants: tuple[Any, ...] = ()
        self._numbers: list[int] = []  # of the row in each slot
        self._free: list[int] = []
        self._latest: tuple[tuple[int, ...], ProgramSampler] | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._numbers) - len(self._free)

    @property
    def room(self) -> int:
        """How many slots there are, taken or not."""
        return len(self._parts[0]) if self._parts else 0

    def enter(self, prepared: Prepared, numbers: Sequence[int]) -> list[int]:
        """Take in rows.

        Args:
            prepared: by this cohort's trunk.
            numbers: of the rows in their caller's batch, the keys of independent masks.

        Returns:
            Their slots.
        """
        self._constants = prepared.constants
        slots = self._take(len(numbers))
        for slot, number in zip(slots, numbers, strict=True):
            self._numbers[slot] = number
        self._make_room(prepared)
        index = torch.tensor(slots, device=self._trunk.planner.program.device)
        for held, part in zip(self._parts, prepared.parts, strict=True):
            held.index_copy_(0, index, part)
        self._latest = None  # its rows may be others now
        return slots

    def leave(self, slots: Sequence[int]) -> None:
        """Let rows go."""
        self._free.extend(slots)
        if not len(self):
            self._parts, self._numbers, self._free, self._latest = (), [], [], None

    def samples(
        self, slots: Sequence[int], samples: range
    ) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
        """Outputs of some rows, a chunk of samples at a time: each `[S, B, ...]`.

        Raises:
            torch.OutOfMemoryError: as for `Sampler.samples`.
            InputError: an input is outside of what the model can look up.
        """
        sampler = self._sampler(tuple(slots))
        for chunk in sampler.chunks(samples.start, samples.stop):
            yield chunk, sampler.samples(chunk)

    def _sampler(self, slots: tuple[int, ...]) -> ProgramSampler:
        if self._latest is None or self._latest[0] != slots:
            self._latest = None  # before the next one, or both would be alive
            self._latest = slots, self._open(slots)
        return self._latest[1]

    def _open(self, slots: tuple[int, ...]) -> ProgramSampler:
        planner = self._trunk.planner
        if slots == tuple(range(len(slots))):
            parts = tuple(part[: len(slots)] for part in self._parts)
        else:
            index = torch.tensor(slots, device=planner.program.device)
            parts = tuple(part.index_select(0, index) for part in self._parts)
        return planner.resume(
            planner.known(self._trunk.like, len(slots)),
            self._trunk.entrance(Prepared(parts, self._constants)),
            self._bank,
            [self._numbers[slot] for slot in slots],
            repeated=self._repeated,
        )

    def _take(self, count: int) -> list[int]:
        """Slots for so many rows, the lowest ones first."""
        self._free.sort()
        slots, self._free = self._free[:count], self._free[count:]
        more = range(len(self._numbers), len(self._numbers) + count - len(slots))
        self._numbers.extend(0 for _ in more)
        return [*slots, *more]

    def _make_room(self, prepared: Prepared) -> None:
        """Buffers for every slot; they grow twofold, so that copying them does not add up."""
        have = len(self._parts[0]) if self._parts else 0
        if have >= len(self._numbers):
            return
        room = max(2 * have, len(self._numbers))
        grown = []
        for position, part in enumerate(prepared.parts):
            held = part.new_zeros((room, *part.shape[1:]))
            if have:
                held[:have] = self._parts[position]
            grown.append(held)
        self._parts = tuple(grown)
