"""Rows of a program, sampled as planned; chunks that do not fit the memory are halved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mcdrop.engine.engine import Engine, OneRow, Run
from mcdrop.engine.entrance import Entrance
from mcdrop.engine.memory import free_caches, is_out_of_memory
from mcdrop.engine.plan import Plan, Way
from mcdrop.engine.precision import Precision, arithmetic
from mcdrop.program.program import Program
from mcdrop.program.schema import LookupErrors
from mcdrop.sampling import MaskBank


class ProgramSampler:
    """Opens each engine when it is first needed, and falls back on smaller chunks.

    Args:
        program: what is sampled.
        engines: those that the plan names.
        plan: which engine takes which samples, and how many at a time.
        entrance: the rows.
        bank: the masks.
        rows: numbers of the rows in the caller's batch.
        repeated: whether the seed was asked for before.
        precision: of products.
        shrunk: told of a smaller plan when memory did not suffice.
    """

    def __init__(
        self,
        program: Program,
        engines: Mapping[str, Engine],
        plan: Plan,
        entrance: Entrance,
        bank: MaskBank,
        rows: Sequence[int],
        *,
        repeated: bool,
        precision: Precision = "float32",
        shrunk: Callable[[Plan], None],
    ) -> None:
        self._program = program
        self._engines = engines
        self._plan = plan
        self._entrance = entrance
        self._bank = bank
        self._rows = tuple(rows)
        self._repeated = repeated
        self._precision: Precision = precision
        self._shrunk = shrunk
        self._runs: dict[str, Run] = {}
        self._halves: tuple[ProgramSampler, ProgramSampler] | None = None

    def chunks(self, start: int, stop: int) -> Iterator[range]:
        """Cut a range of samples into what is computed at a time.

        Chunks end where the samples do that are kept, and where blocks do: their sizes are powers
        of two.
        """
        while start < stop:
            size = self._plan.way(start, repeated=self._repeated).samples
            end = min(stop, start - start % size + size)
            if start < self._plan.kept_samples:
                end = min(end, self._plan.kept_samples)
            yield range(start, end)
            start = end

    def samples(self, chunk: range) -> tuple[Tensor, ...]:
        """Outputs of a chunk, each `[S, B, ...]`.

        Raises:
            torch.OutOfMemoryError: one row and one sample alone do not fit (on a CPU a
                `RuntimeError`, as torch has it).
            InputError: an input is outside of what the model can look up.
        """
        if self._halves is None:
            way = self._plan.way(chunk.start, repeated=self._repeated)
            try:
                return self.compute(chunk, way.engine)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or (len(chunk) == 1 and len(self._rows) == 1):
                    raise
            # outside of the handler, or the failed chunk's tensors would still be alive
            self._give_way(chunk, way)
        if self._halves is not None:
            first, second = (half.samples(chunk) for half in self._halves)
            return tuple(torch.cat(pair, 1) for pair in zip(first, second, strict=True))
        middle = chunk.start + len(chunk) // 2
        early = self.samples(range(chunk.start, middle))
        late = self.samples(range(middle, chunk.stop))
        return tuple(torch.cat(pair) for pair in zip(early, late, strict=True))

    def compute(self, chunk: range, engine: str) -> tuple[Tensor, ...]:
        """Outputs of a chunk by one engine, or an error where memory does not suffice."""
        device = self._program.device
        if torch.is_inference_mode_enabled():  # what is kept is written again outside of it
            with torch.inference_mode(False):
                return self.compute(chunk, engine)
        with (
            torch.no_grad(),
            LookupErrors(),
            arithmetic(self._precision, device),
        ):
            if engine not in self._runs:
                self._runs[engine] = self._open(engine)
            outputs = self._runs[engine].samples(chunk.start, chunk.stop)
        if self._precision != "bfloat16":
            return outputs
        return tuple(o.float() if o.dtype == torch.bfloat16 else o for o in outputs)

    def _open(self, engine: str) -> Run:
        if len(self._rows) > 1 or self._program.takes_one_row:
            return self._entrance.open(self._engines[engine], self._bank, self._rows)
        twice = self._entrance.doubled()
        return OneRow(twice.open(self._engines[engine], self._bank, self._rows * 2))

    def _give_way(self, chunk: range, way: Way) -> None:
        """Plan for half as much: fewer samples at a time, or else fewer rows."""
        free_caches(self._program.device)
        if len(chunk) > 1:
            smaller = replace(way, samples=1 << ((len(chunk) // 2).bit_length() - 1))
            kept, fresh = (smaller if w == way else w for w in (self._plan.kept, self._plan.fresh))
            self._plan = replace(self._plan, kept=kept, fresh=fresh)
        else:
            half = len(self._rows) // 2
            self._runs.clear()
            self._plan = replace(self._plan, rows=half)
            self._halves = (self._some(slice(0, half)), self._some(slice(half, None)))
        self._shrunk(self._plan)

    def _some(self, rows: slice) -> ProgramSampler:
        return ProgramSampler(
            self._program,
            self._engines,
            self._plan,
            self._entrance.part(rows),
            self._bank,
            self._rows[rows],
            repeated=self._repeated,
            precision=self._precision,
            shrunk=self._shrunk,
        )
