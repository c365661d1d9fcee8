"""Lanes: one model's asks on one device, those that wait and those that are resident."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Protocol

from mcdrop.prediction import Prediction, joined
from mcdrop.residents import Party, Residency
from mcdrop.sampling import BLOCK
from service.batching.ask import Ask
from service.batching.stay import Stay, Visit, all_blocks
from service.batching.steps import Step, plan_step
from service.errors import DeadlineError, InvalidRequestError

# What a step should take at most, where more than a block is to be had for it: as long has a
# newcomer to wait for its turn.
_STEP_SECONDS = 0.01
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
    """Takes asks in, steps their rows together, and lets them go.

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
        self.visits: list[Visit] = []
        self.tag = 0.0  # the device's time that this lane has had
        self._name, self._version = name, version
        self._residency = residency
        self._step_rows = step_rows
        self._observer = observer
        self._costs: dict[tuple[Hashable, int], float] = {}  # seconds of a block
        # What a visit would have had of the device's time, had it been shared evenly: the tag of a
        # newcomer. That of whoever was served last would not move on while newcomers come.
        self._now = 0.0
        self._answered: deque[float] = deque(maxlen=32)  # when the latest answers were given

    @property
    def rows(self) -> int:
        """How many rows are resident."""
        return sum(visit.rows for visit in self.visits)

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
        answered = self._answered
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
            ask.fail(late(ask))

    def enter(self, asks: Sequence[Ask[Any]]) -> None:
        """Take asks in: those of one shape by one pass through the trunk."""
        by_shape: dict[object, list[Visit]] = {}
        for ask in asks:
            try:
                shape, visit = self._visit(ask)
            except Exception as error:  # noqa: BLE001 - its caller's to handle, whatever it is
                ask.fail(error)
            else:
                by_shape.setdefault(shape, []).append(visit)
        for visits in by_shape.values():
            self._enter_together(visits)

    def _visit(self, ask: Ask[Any]) -> tuple[object, Visit]:
        ask.entered = time.monotonic()
        ask.inputs = self._residency.check(ask.inputs)
        whole = self._party(ask, range(ask.rows))
        most = self._residency.most_rows(whole, self._step_rows)
        if ask.together and ask.rows > (fitting := self._residency.most_rows(whole, ask.rows)):
            raise InvalidRequestError(
                f"with a deadline, or streamed, a request to this model may have {fitting} rows, "
                f"as many as fit the memory together; got {ask.rows}"
            )
        return whole.shape, Visit(ask, self._now, parts=-(-ask.rows // most))

    def _enter_together(self, visits: Sequence[Visit]) -> None:
        coming = [(visit, place) for visit in visits for place in visit.coming()]
        try:
            guests = self._residency.enter([self._part(*pair) for pair in coming])
        except Exception as error:  # noqa: BLE001 - whose it is shows when each goes alone
            if len(visits) == 1:
                self._fail(visits[0], error)
            else:
                for visit in visits:
                    self._enter_together([visit])
            return
        for (visit, place), guest in zip(coming, guests, strict=True):
            visit.stays.append(Stay(visit, guest, place, all_blocks(visit.ask.samples)))
        self.visits.extend(visit for visit in visits if visit not in self.visits)

    def _part(self, visit: Visit, place: int) -> Party:
        size = -(-visit.ask.rows // visit.parts)
        first = place * size
        return self._party(visit.ask, range(first, min(visit.ask.rows, first + size)))

    def _party(self, ask: Ask[Any], rows: Sequence[int]) -> Party:
        """Some rows of an ask."""
        inputs = ask.inputs
        if len(rows) < ask.rows:
            inputs = {name: tensor[list(rows)] for name, tensor in inputs.items()}
        return Party(inputs, ask.seed, [ask.first_row + row for row in rows])

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
        self._take(step)
        seconds = time.perf_counter() - began
        self._learn(step, seconds)
        self._now += seconds / active
        for stay in step.riders:
            stay.visit.tag += seconds * stay.rows / max(1, step.rows)
        self._look_after(step)
        return seconds

    def _most_blocks(self, kind: Hashable, rows: int) -> int:
        cost = self._costs.get(_cost_key(kind, rows))
        return 1 if cost is None else max(1, int(_STEP_SECONDS / cost))

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

    def _take(self, step: Step) -> None:
        residents = step.riders[0].guest.residents
        guests = [stay.guest for stay in step.riders]
        try:
            residents.step(guests, step.start, step.stops)
        except Exception as error:  # noqa: BLE001 - whose it is shows when each goes alone
            self._take_alone(step, error)
        else:
            for stay in step.riders:
                stay.take(step.first, step.count)

    def _take_alone(self, step: Step, error: Exception) -> None:
        """What a step failed on is one stay's, or each one's own: nobody fails with another."""
        if len(step.riders) == 1:
            self._fail(step.riders[0].visit, error)
            return
        for stay in step.riders:
            if stay.visit not in self.visits:
                continue  # another part of it has failed
            try:
                self._begin_anew(stay)
                own = plan_step(stay, (), stay.rows, lambda _: 1)
                stay.guest.residents.step([stay.guest], own.start, own.stops)
            except Exception as its_own:  # noqa: BLE001 - its caller's to handle, whatever it is
                self._fail(stay.visit, its_own)
            else:
                stay.take(own.first, own.count)

    def _begin_anew(self, stay: Stay) -> None:
        """Sample the rows of a stay from the start: how far a failed step came is not known."""
        whole = self._part(stay.visit, stay.place)
        first = whole.numbers[0] - stay.visit.ask.first_row
        rows = [first + position for position in stay.guest.positions]
        fresh = self._residency.enter([self._party(stay.visit.ask, rows)])[0]
        fresh.positions, fresh.settled = stay.guest.positions, stay.guest.settled
        old, stay.guest = stay.guest, fresh
        old.residents.leave(old)
        stay.needs = all_blocks(stay.samples)

    # --- letting go

    def _look_after(self, step: Step) -> None:
        """What follows from a step: rows that are done, partial answers, whole answers."""
        here = [stay for stay in step.riders if stay.visit in self.visits]
        for stay in here:
            if stay.visit.ask.tolerance is not None:
                self._settle(stay, stay.visit.ask.tolerance)
        done = [stay for stay in here if not stay.needs]
        self._finish(done)
        for visit in dict.fromkeys(stay.visit for stay in here):
            if visit.ask.partial is not None and visit in self.visits and visit.all_begun:
                visit.ask.report(self._so_far(visit))

    def _settle(self, stay: Stay, tolerance: float) -> None:
        """Set aside the rows whose mean is known well enough."""
        taken = stay.stop(stay.taken - 1)
        if taken < self._residency.first_look or taken % BLOCK or not stay.needs:
            return
        residents = stay.guest.residents
        done = (residents.expected_errors(stay.guest) <= tolerance).tolist()
        if any(done):
            residents.settle(stay.guest, done)
            if all(done):
                stay.needs = 0

    def _finish(self, stays: Sequence[Stay]) -> None:
        """Answer whom these stays were the last of, and let the next part of others in."""
        if not stays:
            return
        residents = stays[0].guest.residents
        guests = [stay.guest for stay in stays]
        predictions = residents.predictions(guests)
        residents.leave(*guests)
        more = []
        for stay, prediction in zip(stays, predictions, strict=True):
            visit = stay.visit
            visit.stays.remove(stay)
            visit.answers[stay.place] = prediction
            if len(visit.answers) == visit.parts:
                self.visits.remove(visit)
                self._answered.append(time.monotonic())
                visit.ask.answer(visit.joined())
            elif not visit.stays:
                more.append(visit)
        for visit in more:
            self._enter_together([visit])
        self._residency.tidy()

    def _so_far(self, visit: Visit) -> Prediction:
        """What is known of all rows of a visit, each of which has samples."""
        known = dict(visit.answers)
        for stay in visit.stays:
            known[stay.place] = stay.guest.residents.predictions([stay.guest])[0]
        return joined([known[place] for place in range(visit.parts)])

    def dismiss(self) -> None:
        """Let those go that nobody waits for any more, and answer those whose time is up."""
        now = time.monotonic()
        for visit in list(self.visits):
            if visit.ask.abandoned:
                self._let_go(visit)
            elif visit.ask.deadline is not None and now >= visit.ask.deadline:
                if visit.all_begun:
                    visit.ask.answer(self._so_far(visit))
                else:
                    visit.ask.fail(late(visit.ask))
                self._let_go(visit)

    def _fail(self, visit: Visit, error: Exception) -> None:
        visit.ask.fail(error)
        self._let_go(visit)

    def _let_go(self, visit: Visit) -> None:
        for stay in visit.stays:
            stay.guest.residents.leave(stay.guest)
        visit.stays.clear()
        if visit in self.visits:
            self.visits.remove(visit)
        self._residency.tidy()


def late(ask: Ask[Any]) -> DeadlineError:
    """The error of an ask whose deadline passes before there is anything to say."""
    waited = (time.monotonic() - ask.submitted) * 1e3
    return DeadlineError(
        f"the deadline passed after {waited:.0f} ms, before every row had a sample; "
        "allow more time, or ask for fewer rows"
    )


def _cost_key(kind: Hashable, rows: int) -> tuple[Hashable, int]:
    """What the cost of a block depends on: whose rows, and about how many."""
    return kind, max(0, rows - 1).bit_length()
