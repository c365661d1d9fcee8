"""Lanes: one model's asks on one device, those that wait and those that are resident."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Protocol

from mcdrop.residency import Residency
from service.batching.ask import Ask
from service.batching.steps import Step, plan_step
from service.batching.visits import Visits

# What a step should take at most, where more than a block is to be had for it: as long has a
# newcomer to wait for its turn. Among many it waits for them in any case, and each step costs a
# millisecond or two beside its samples.
_STEP_SECONDS = 0.005
_STEP_SECONDS_A_VISIT = 0.002
_MOST_STEP_SECONDS = 0.05
_SMOOTHING = 0.2  # of the measured cost of a step
_OTHER_SEEDS = 8  # that are resident at a time: each has masks of its own in memory
# Rows that are resident at a time, in steps: more would wait here instead of in the queue.
_STEPFULS = 4


_MOST_PATIENCE = 60  # seconds


class StepObserver(Protocol):
    """Told of what is computed; see `service.telemetry.telemetry`."""

    def pending(self, model: str, version: int, change: int) -> None:
        """So many more asks wait."""
        ...

    def step(self, model: str, version: int, *, rows: int, samples: int, seconds: float) -> None:
        """A step was taken."""
        ...

    def resident(self, device: str, rows: int) -> None:
        """So many rows are resident now."""
        ...


class Lane:
    """Takes asks in, and says whose turn it is; its `visits` do what the steps ask of them.

    All but `waiting` belongs to the device's thread; that, to whoever holds the worker's lock.

    Args:
        name: of the model.
        version: of the model.
        residency: of the model, on the device.
        step_rows: most rows in a step.
        observer: told of steps; `None` for nobody.
    """

    def __init__(
        self,
        name: str,
        version: int,
        residency: Residency,
        *,
        step_rows: int,
        observer: StepObserver | None = None,
    ) -> None:
        self.waiting: deque[Ask[Any]] = deque()
        self.visits = Visits(residency, step_rows)
        self.tag = 0.0  # the device's time that this lane has had
        self._name, self._version = name, version
        self._residency = residency
        self._step_rows = step_rows
        self._observer = observer
        self._costs: dict[tuple[Hashable, int], float] = {}  # seconds of a block
        # What a visit would have had of the device's time, had it been shared evenly: the tag of a
        # newcomer. That of whoever was served last would not move on while newcomers come.
        self._now = 0.0

    @property
    def rows(self) -> int:
        """How many rows are resident."""
        return self.visits.rows

    @property
    def load(self) -> float:
        """Row-samples that are asked for and not yet taken, at most."""
        waiting = sum(ask.rows * ask.samples for ask in list(self.waiting))
        return waiting + sum(visit.left for visit in list(self.visits))

    @property
    def busy(self) -> bool:
        """Whether somebody waits or is resident."""
        return bool(self.waiting or self.visits)

    # --- waiting; with the worker's lock held

    def queue(self, ask: Ask[Any]) -> None:
        """Let an ask wait."""
        self.waiting.append(ask)
        self._pending(1)

    def withdraw(self, ask: Ask[Any]) -> None:
        """Let an ask go that waits; one that is resident goes before the next step."""
        if ask in self.waiting:
            self.waiting.remove(ask)
            self._pending(-1)

    def patience(self) -> int:
        """In how many seconds those that wait now may have been answered, at the latest pace."""
        answered = self.visits.answered
        if len(answered) < 2:
            return 1
        pace = (answered[-1] - answered[0]) / (len(answered) - 1)
        return min(_MOST_PATIENCE, max(1, math.ceil(pace * len(self.waiting))))

    def _pending(self, change: int) -> None:
        if self._observer is not None:
            self._observer.pending(self._name, self._version, change)

    # --- taking in

    def welcome(self) -> list[Ask[Any]]:
        """Asks that wait and can be taken in now, out of the queue; with the worker's lock held."""
        self._turn_away_late()
        room = self._step_rows * _STEPFULS - self.rows
        seeds = self._residency.other_seeds
        taken: list[Ask[Any]] = []
        passed: list[Ask[Any]] = []
        while self.waiting and (room > 0 or not (taken or self.visits)):
            ask = self.waiting.popleft()
            if ask.seed != self._residency.seed:
                if seeds >= _OTHER_SEEDS:
                    passed.append(ask)
                    continue
                seeds += 1
            taken.append(ask)
            room -= min(ask.rows, self._step_rows)
            self._pending(-1)
        self.waiting.extendleft(reversed(passed))
        return taken

    def _turn_away_late(self) -> None:
        now = time.monotonic()
        for ask in [a for a in self.waiting if a.deadline is not None and now >= a.deadline]:
            self.withdraw(ask)
            ask.fail(ask.late())

    def enter(self, asks: Sequence[Ask[Any]]) -> None:
        """Take in asks that were welcomed."""
        self.visits.enter(asks, self._now)

    def dismiss(self) -> None:
        """Let those go that nobody waits for any more, and answer those whose time is up."""
        self.visits.dismiss()

    # --- stepping

    def advance(self) -> float:
        """Take one step; the seconds it took."""
        visit = min(self.visits, key=lambda visit: (visit.tag, visit.left))
        chosen = visit.next()
        others = [
            stay
            for other in sorted(self.visits, key=lambda visit: visit.tag)
            for stay in other.stays
            if stay is not chosen and stay.guest.residents is chosen.guest.residents
        ]
        kind, active = chosen.guest.residents.kind, len(self.visits)
        step = plan_step(chosen, others, self._step_rows, partial(self._most_blocks, kind))
        began = time.perf_counter()
        self.visits.take(step)
        seconds = time.perf_counter() - began
        self._learn(step, seconds)
        self._now += seconds / active
        for stay in step.riders:
            stay.visit.tag += seconds * stay.rows / max(1, step.rows)
        self.visits.look_after(step)
        return seconds

    def _most_blocks(self, kind: Hashable, rows: int) -> int:
        cost = self._costs.get(_cost_key(kind, rows))
        limit = _STEP_SECONDS + _STEP_SECONDS_A_VISIT * len(self.visits)
        return 1 if cost is None else max(1, int(min(limit, _MOST_STEP_SECONDS) / cost))

    def _learn(self, step: Step, seconds: float) -> None:
        key = _cost_key(step.riders[0].guest.residents.kind, step.rows)
        cost = seconds / step.count
        known = self._costs.get(key, cost)
        self._costs[key] = known + _SMOOTHING * (cost - known)
        if self._observer is not None:
            samples = max(step.stops) - step.start
            self._observer.step(
                self._name, self._version, rows=step.rows, samples=samples, seconds=seconds
            )


def _cost_key(kind: Hashable, rows: int) -> tuple[Hashable, int]:
    """What the cost of a block depends on: whose rows, and about how many."""
    return kind, max(0, rows - 1).bit_length()
