"""The planner: tries the engines on the caller's rows, and remembers what was fastest."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from mcdrop.engine.batched import BatchedEngine
from mcdrop.engine.engine import Engine
from mcdrop.engine.entrance import Entrance, FromInputs
from mcdrop.engine.footprint import Footprint, Footprints
from mcdrop.engine.loop import LoopEngine
from mcdrop.engine.memory import is_out_of_memory
from mcdrop.engine.plan import KEPT_SAMPLES, Plan, Trial, Way
from mcdrop.engine.precision import Precision, arithmetic
from mcdrop.engine.sampler import ProgramSampler
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.engine.trials import Trials
from mcdrop.errors import ArtifactError, InputError
from mcdrop.program.program import Program
from mcdrop.program.schema import dtype_of
from mcdrop.sampling import Banks, MaskBank, Masks, Sampling

EngineName = Literal["auto", "loop", "batched", "thinned"]

# Larger chunks gain nothing measurable, and memory is the same for any number of samples beyond.
_MOST_SAMPLES = 128
# Where to begin looking: beyond the last-level cache, larger chunks cost memory bandwidth.
_CPU_WORKING_SET = 32 << 20
_REMEMBERED = 256  # plans
_CLEARLY = 0.9  # a way that is not faster by a tenth does not replace one tried before
_Sizes = tuple[tuple[int, ...], ...]
_Key = tuple[_Sizes, int, int]  # shapes of the inputs without the batch, rows, samples at most
_NOT_FOR_ZEROS = (IndexError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


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
        self._engines = self._choose_engines(engine, masks)
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
            self.plan(self._zeros(1), _MOST_SAMPLES, 0)
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

    def _choose_engines(self, engine: EngineName, masks: Masks) -> dict[str, Engine]:
        batched = BatchedEngine(self._program)
        if engine == "loop":
            return {"loop": LoopEngine(self._program)}
        if engine == "thinned":
            if not self._thinned.applies:
                raise InputError(
                    'engine="thinned" finds no site to thin: '
                    + ("; ".join(_thinning(self._thinned)) or f"masks are {masks}")
                    + '. Take engine="auto"'
                )
            return {"thinned": self._required(self._thinned)}
        if engine == "batched":
            return {"batched": self._required(batched)}
        if self._obstacle(batched) is not None:
            return {"loop": self._last_resort()}
        if self._thinned.applies and self._obstacle(self._thinned) is None:
            return {"batched": batched, "thinned": self._thinned}
        return {"batched": batched}

    def _required(self, engine: BatchedEngine | ThinnedEngine) -> Engine:
        obstacle = self._obstacle(engine)
        if obstacle is not None:
            raise InputError(
                f'engine="{engine.name}" cannot run this model'
                f"{' in ' + self._precision if self._precision != 'float32' else ''}: "
                f'{obstacle}. Take engine="auto"'
            )
        return engine

    def _obstacle(self, engine: Engine) -> str | None:
        """Why vmap cannot take the tail, tried on two rows of zeros and two samples."""
        try:
            self._try(engine)
        except _NOT_FOR_ZEROS:
            return None  # zeros are not what the model takes; vmap had no objection so far
        except RuntimeError as error:
            return str(error).partition("\n")[0] or type(error).__name__
        return None

    def _last_resort(self) -> LoopEngine:
        """The loop, tried as well: what it cannot run would be loaded, and never predict."""
        engine = LoopEngine(self._program)
        try:
            self._try(engine)
        except (*_NOT_FOR_ZEROS, NotImplementedError):
            pass  # zeros are not what it takes; the device lacks a kernel, which its caller says
        except RuntimeError as error:
            if not is_out_of_memory(error):  # one row may fit
                said = str(error)[:200]
                raise ArtifactError(f"the graph does not run on zeros: {said}") from None
        return engine

    def _try(self, engine: Engine) -> None:
        inputs, device = self._zeros(2), self._program.device
        with torch.no_grad(), arithmetic(self._precision, device):
            engine.open(inputs, self.bank(inputs, 0), range(2)).samples(0, 2)

    def _zeros(self, rows: int) -> dict[str, Tensor]:
        return {
            spec.name: torch.zeros(
                (rows, *spec.smallest()), dtype=dtype_of(spec.dtype), device=self._program.device
            )
            for spec in self._program.inputs
        }

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
        kept_samples = self._thinned.kept_samples if "thinned" in self._engines else KEPT_SAMPLES
        trials = Trials(sampler, self._program.device, kept_samples)
        batched = self._try_batched(trials, self._guess(cost, len(numbers), limit), limit)
        kept, fresh = self._try_thinned(trials, limit, batched)
        plan = Plan(
            fitting,
            kept=reduce(_better, batched + kept).way,
            fresh=reduce(_better, batched + fresh).way,
            kept_samples=kept_samples,
            trials=tuple(trials.seen),
            notes=self._notes(),
        )
        used = {w.engine for p in (plan, *self._plans.values()) for w in (p.kept, p.fresh)}
        if "thinned" in self._engines and "thinned" not in used:
            self._thinned.forget()
        if self._precision != "float32":
            exact = self._sampler(plan, part, seed, numbers, repeated=True, precision="float32")
            plan = replace(plan, notes=(*plan.notes, self._error(sampler, exact, plan)))
        return plan

    def _guess(self, cost: Footprint, rows: int, limit: int) -> int:
        if self._program.device.type != "cpu":
            return limit
        return min(limit, _power_below(cost.samples(rows, _CPU_WORKING_SET)))

    def _guessed(self, inputs: Mapping[str, Tensor], rows: int) -> Plan:
        """A plan that nothing was measured for."""
        cost = self._footprints(inputs)
        fitting = cost.rows(rows, self._budget)
        engine = next(iter(self._engines))
        limit = min(_MOST_SAMPLES, _power_below(cost.samples(fitting, self._budget)))
        way = Way(engine, 1 if engine == "loop" else self._guess(cost, fitting, limit))
        return Plan(fitting, way, way)

    def _try_batched(self, trials: Trials, guess: int, limit: int) -> list[Trial]:
        """The fastest chunk of the batched engine, sought around a guess."""
        if "batched" not in self._engines:
            return []
        if limit == 1 and len(self._engines) == 1:  # nothing to choose
            return [Trial(Way("batched", 1), fresh=False, seconds=None)]
        best = trials.run(Way("batched", guess))
        for factor in (4.0, 0.25, 2.0, 0.5):
            way = Way("batched", int(best.way.samples * factor))
            if 1 <= way.samples <= limit and not trials.late and not trials.tried(way):
                best = _better(best, trials.run(way))
        return [best]

    def _try_thinned(
        self, trials: Trials, limit: int, batched: list[Trial]
    ) -> tuple[list[Trial], list[Trial]]:
        """The fastest chunk of the thinned engine: with weights kept, and gathered anew.

        The latter is not tried where the batched engine is no slower than the former.
        """
        kept: list[Trial] = []
        if "thinned" not in self._engines:
            return kept, kept
        # as many bytes again may be kept, see ThinnedEngine
        while limit > 1 and 2 * self._thinned.gather_bytes(limit) > self._budget:
            limit //= 2
        if 2 * self._thinned.gather_bytes(limit) > self._budget and len(self._engines) > 1:
            return kept, kept
        for samples in sorted({min(16, limit), min(32, limit), limit}):
            small = self._thinned.gather_bytes(samples) <= _CPU_WORKING_SET
            if not kept or ((samples <= 32 or small) and not trials.late):
                kept.append(trials.run(Way("thinned", samples), keeps=True))
        best = reduce(_better, kept)
        if batched and _better(batched[0], best) is batched[0]:
            return [best], []
        return [best], [trials.run(best.way, fresh=True)]

    def _error(self, narrow: ProgramSampler, exact: ProgramSampler, plan: Plan) -> str:
        """What narrow arithmetic costs in accuracy, on the rows that were planned with."""
        chunk = range(min(16, plan.kept.samples))
        a, b = (s.compute(chunk, plan.engine)[0].float() for s in (narrow, exact))
        error = float((a - b).norm() / b.norm())
        return f"{self._precision}: samples differ from float32 by {error:.1e} (relative L2)"

    def _notes(self) -> tuple[str, ...]:
        trunk, tail = len(self._program.trunk.nodes), len(self._program.tail.nodes)
        split = f"trunk: {trunk} of {trunk + tail} operations, computed once for all samples"
        if "thinned" not in self._engines:
            return (split,)
        return (split, *_thinning(self._thinned))


def _thinning(engine: ThinnedEngine) -> list[str]:
    return [f"site {name!r}: {how}" for name, how in engine.reasons.items()]


def _better(first: Trial, second: Trial) -> Trial:
    """The faster one; the first unless the difference is more than noise."""
    costs = [math.inf if t.seconds is None else t.seconds for t in (first, second)]
    return second if costs[1] < _CLEARLY * costs[0] else first


def _sizes(inputs: Mapping[str, Tensor]) -> _Sizes:
    return tuple(tuple(tensor.shape[1:]) for tensor in inputs.values())


def _power_above(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _power_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)
