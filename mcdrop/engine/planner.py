"""The planner: tries the engines on the caller's rows, and remembers what was fastest."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from torch import Tensor

from mcdrop.engine.choice import Choice, EngineName, thinning, zeros
from mcdrop.engine.entrance import Entrance, FromInputs
from mcdrop.engine.footprint import Footprint, Footprints
from mcdrop.engine.packed import PackedEngine
from mcdrop.engine.plan import KEPT_SAMPLES, Plan, Trial, Way
from mcdrop.engine.precision import Precision, arithmetic
from mcdrop.engine.sampler import ProgramSampler
from mcdrop.engine.search import CPU_WORKING_SET, batched_ways, fastest, packed_ways, thinned_ways
from mcdrop.engine.team import Team
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.engine.trials import Trials
from mcdrop.program.program import Program
from mcdrop.sampling import Banks, MaskBank, Masks, Sampling

# Larger chunks gain nothing measurable, and memory is the same for any number of samples beyond.
_MOST_SAMPLES = 128
_REMEMBERED = 256  # plans
_Sizes = tuple[tuple[int, ...], ...]
_Key = tuple[_Sizes, int, int]  # shapes of the inputs without the batch, rows, samples at most


class Planner:
    """Chooses engine and chunk by a short warm-up, within a memory budget.

    Args:
        program: what to sample.
        engine: `"auto"`, or the one to use.
        masks: shared across rows or independent.
        sampling: balanced or iid.
        memory_budget: bytes that the tensors of a chunk may take.
        precision: of products.

    Raises:
        InputError: the engine that is asked for cannot run the program.
    """

    def __init__(
        self,
        program: Program,
        *,
        engine: EngineName,
        masks: Masks,
        sampling: Sampling,
        memory_budget: int,
        precision: Precision = "float32",
    ) -> None:
        self._program = program
        self._budget = memory_budget
        self._precision: Precision = precision
        self._footprints = Footprints(program, masks)
        self._banks = Banks(program.active, masks=masks, sampling=sampling, device=program.device)
        self._thinned = ThinnedEngine(program, masks, memory_budget)
        self._packed = PackedEngine(program, self._thinned, memory_budget)
        choice = Choice(program, precision, self.bank)
        self._engines = choice.engines(engine, self._thinned, self._packed)
        self._plans: dict[_Key, Plan] = {}
        self._latest: _Key = ((), 0, 0)
        self._recent: deque[int] = deque(maxlen=2)  # seeds, as many as there are banks

    @property
    def name(self) -> str:
        """The engine in use: that of the latest plan where there is a choice."""
        if len(self._engines) == 1:
            return next(iter(self._engines))
        return self.latest.engine

    @property
    def latest(self) -> Plan:
        """The plan used last; before any, of one row of zeros."""
        if not self._plans:
            self.plan(zeros(self._program, 1), _MOST_SAMPLES, 0)
        return self._plans[self._latest]

    def plan(self, inputs: Mapping[str, Tensor], samples: int, seed: int) -> Plan:
        """The plan for rows of these shapes, measured when they are first seen."""
        rows = _power_above(next(iter(inputs.values())).shape[0])
        most = min(_power_above(samples), _MOST_SAMPLES)
        key = (_sizes(inputs), rows, most)
        if key not in self._plans:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            self._plans[key] = self._make(inputs, rows, most, seed)
            self._remember(seed)  # what can be kept of it was made for the trials
        self._latest = key
        return self._plans[key]

    def fitting_rows(self, inputs: Mapping[str, Tensor]) -> int:
        """How many rows fit the memory together; nothing is tried for that."""
        return self._footprints(inputs).rows(len(next(iter(inputs.values()))), self._budget)

    def open(
        self, plan: Plan, inputs: Mapping[str, Tensor], seed: int, rows: Sequence[int]
    ) -> ProgramSampler:
        """Prepare to sample rows as planned."""
        repeated = self._remember(seed)
        return self._sampler(plan, inputs, seed, rows, repeated=repeated)

    def known(self, inputs: Mapping[str, Tensor], rows: int) -> Plan:
        """The plan for so many rows of these shapes, without trying anything; only shapes are read.

        What was measured for them, or for the nearest number of rows, or for other shapes; else a
        guess.
        """
        sizes = _sizes(inputs)
        exact = self._plans.get((sizes, _power_above(rows), _MOST_SAMPLES))
        if exact is not None:
            return exact
        measured = [key for key in self._plans if key[2] == _MOST_SAMPLES]
        if not measured:
            return self._guessed(inputs, rows)

        def distance(key: _Key) -> tuple[bool, float]:
            return key[0] != sizes, abs(math.log2(key[1] / rows))

        return self._plans[min(measured, key=distance)]

    def resume(
        self, plan: Plan, entrance: Entrance, bank: MaskBank, rows: Sequence[int], *, repeated: bool
    ) -> ProgramSampler:
        """Prepare to sample rows that are held elsewhere; arguments as for `ProgramSampler`."""
        return self._entered(plan, entrance, bank, rows, repeated=repeated)

    def bank(self, inputs: Mapping[str, Tensor], seed: int) -> MaskBank:
        """The masks of a seed for inputs of these shapes; only shapes are read."""
        return self._banks.bank(seed, self._footprints(inputs).shapes)

    def employ(self, team: Team) -> None:
        """Have a team take samples side by side from now on, where an engine can make use of it."""
        self._packed.team = team

    @property
    def program(self) -> Program:
        """What is sampled."""
        return self._program

    @property
    def memory_budget(self) -> int:
        """Bytes that the tensors of a chunk may take."""
        return self._budget

    def footprint(self, inputs: Mapping[str, Tensor]) -> Footprint:
        """What rows of these shapes cost; only shapes are read."""
        return self._footprints(inputs)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Products in the planner's precision."""
        return arithmetic(self._precision, self._program.device)

    def _remember(self, seed: int) -> bool:
        """Whether a seed was asked for before; the two asked for last are known."""
        known = seed in self._recent
        if known:
            self._recent.remove(seed)
        self._recent.append(seed)
        return known

    def _sampler(
        self,
        plan: Plan,
        inputs: Mapping[str, Tensor],
        seed: int,
        rows: Sequence[int],
        *,
        repeated: bool,
        precision: Precision | None = None,
    ) -> ProgramSampler:
        bank, entrance = self.bank(inputs, seed), FromInputs(inputs)
        return self._entered(plan, entrance, bank, rows, repeated=repeated, precision=precision)

    def _entered(
        self,
        plan: Plan,
        entrance: Entrance,
        bank: MaskBank,
        rows: Sequence[int],
        *,
        repeated: bool,
        precision: Precision | None = None,
    ) -> ProgramSampler:
        known = plan

        def shrunk(smaller: Plan) -> None:
            nonlocal known
            for key, remembered in self._plans.items():
                if remembered is known:
                    self._plans[key] = smaller
            known = smaller

        return ProgramSampler(
            self._program,
            self._engines,
            plan,
            entrance,
            bank,
            rows,
            repeated=repeated,
            precision=precision or self._precision,
            shrunk=shrunk,
        )

    def _make(self, inputs: Mapping[str, Tensor], rows: int, most: int, seed: int) -> Plan:
        cost = self._footprints(inputs)
        fitting = cost.rows(rows, self._budget)
        if "loop" in self._engines:
            return Plan(fitting, Way("loop", 1), Way("loop", 1), notes=self._notes())
        limit = min(most, _power_below(cost.samples(fitting, self._budget)))
        part = {name: tensor[:fitting] for name, tensor in inputs.items()}
        numbers = range(next(iter(part.values())).shape[0])
        blank = Plan(fitting, Way("", limit), Way("", limit))
        sampler = self._sampler(blank, part, seed, numbers, repeated=True)
        kept_samples = self._thinned.kept_samples if self._thins else KEPT_SAMPLES
        trials = Trials(sampler, self._program.device, kept_samples)
        kept, fresh = self._search(trials, self._guess(cost, len(numbers), limit), limit)
        plan = Plan(
            fitting,
            kept=fastest(kept).way,
            fresh=fastest(fresh).way,
            kept_samples=kept_samples,
            trials=tuple(trials.seen),
            notes=self._notes(),
        )
        used = {plan.kept.engine for plan in (plan, *self._plans.values())}
        for engine in (self._thinned, self._packed):
            if engine.name in self._engines and engine.name not in used:
                engine.forget()
        if self._precision != "float32":
            exact = self._sampler(plan, part, seed, numbers, repeated=True, precision="float32")
            plan = replace(plan, notes=(*plan.notes, self._error(sampler, exact, plan)))
        return plan

    def _search(self, trials: Trials, guess: int, limit: int) -> tuple[list[Trial], list[Trial]]:
        """Trials of ways for samples of which something may be kept, and of ways for others."""
        kept, fresh = [], []
        if "batched" in self._engines:
            kept = batched_ways(trials, guess, limit, alone=len(self._engines) == 1)
            fresh = list(kept)
        if "thinned" in self._engines:
            found = thinned_ways(trials, self._thinned, limit, list(kept), self._budget)
            # in front: of two that take equally long it computes less, and leaves cores to others
            kept, fresh = found[0] + kept, fresh + found[1]
        if "packed" in self._engines:
            kept = kept + packed_ways(trials, limit, kept)
        return kept, fresh or kept

    def _guess(self, cost: Footprint, rows: int, limit: int) -> int:
        if self._program.device.type != "cpu":
            return limit
        return min(limit, _power_below(cost.samples(rows, CPU_WORKING_SET)))

    def _guessed(self, inputs: Mapping[str, Tensor], rows: int) -> Plan:
        """A plan that nothing was measured for."""
        cost = self._footprints(inputs)
        fitting = cost.rows(rows, self._budget)
        engine = next(iter(self._engines))
        limit = min(_MOST_SAMPLES, _power_below(cost.samples(fitting, self._budget)))
        way = Way(engine, 1 if engine == "loop" else self._guess(cost, fitting, limit))
        return Plan(fitting, way, way)

    def _error(self, narrow: ProgramSampler, exact: ProgramSampler, plan: Plan) -> str:
        """What narrow arithmetic costs in accuracy, on the rows that were planned with."""
        chunk = range(min(16, plan.kept.samples))
        a, b = (s.compute(chunk, plan.engine)[0].float() for s in (narrow, exact))
        error = float((a - b).norm() / b.norm())
        return f"{self._precision}: samples differ from float32 by {error:.1e} (relative L2)"

    @property
    def _thins(self) -> bool:
        """Whether an engine may be taken that leaves out what is dropped."""
        return not {"thinned", "packed"}.isdisjoint(self._engines)

    def _notes(self) -> tuple[str, ...]:
        trunk, tail = len(self._program.trunk.nodes), len(self._program.tail.nodes)
        split = f"trunk: {trunk} of {trunk + tail} operations, computed once for all samples"
        if not self._thins:
            return (split,)
        return (split, *thinning(self._thinned))


def _sizes(inputs: Mapping[str, Tensor]) -> _Sizes:
    return tuple(tuple(tensor.shape[1:]) for tensor in inputs.values())


def _power_above(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _power_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)
