"""Visits: the asks of a lane that have entered, from their first rows to their answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from mcdrop.prediction import Prediction, joined
from mcdrop.residency import Residency
from mcdrop.residents import Party
from mcdrop.sampling import BLOCK
from service.batching.ask import Ask
from service.batching.stay import Stay, Visit, all_blocks
from service.batching.steps import Step, plan_step
from service.errors import InvalidRequestError


class Visits:
    """Lets asks into the residency, takes the steps that are planned for them, and answers them.

    One that fails fails alone. Whose turn it is, is for the lane to say.

    Args:
        residency: of the model, on the device.
        step_rows: most rows in a step.

    Attributes:
        answered: when the latest answers were given, on the monotonic clock.
    """

    def __init__(self, residency: Residency, step_rows: int) -> None:
        self.answered: deque[float] = deque(maxlen=32)
        self._residency = residency
        self._step_rows = step_rows
        self._here: list[Visit] = []

    def __len__(self) -> int:
        """How many there are."""
        return len(self._here)

    def __iter__(self) -> Iterator[Visit]:
        return iter(self._here)

    @property
    def rows(self) -> int:
        """How many rows are resident."""
        return sum(visit.rows for visit in self._here)

    # --- coming in

    def enter(self, asks: Sequence[Ask[Any]], tag: float) -> None:
        """Take asks in: those of one shape by one pass through the trunk.

        Args:
            asks: that were welcomed.
            tag: where they start in the order of turns.
        """
        by_shape: dict[object, list[Visit]] = {}
        for ask in asks:
            try:
                shape, visit = self._visit(ask, tag)
            except Exception as error:  # noqa: BLE001 - its caller's to handle, whatever it is
                ask.fail(error)
            else:
                by_shape.setdefault(shape, []).append(visit)
        for visits in by_shape.values():
            self._enter_together(visits)

    def _visit(self, ask: Ask[Any], tag: float) -> tuple[object, Visit]:
        ask.entered = time.monotonic()
        ask.inputs = self._residency.check(ask.inputs)
        whole = _party(ask, range(ask.rows))
        most = self._residency.most_rows(whole, self._step_rows)
        if ask.together and ask.rows > (fitting := self._residency.most_rows(whole, ask.rows)):
            raise InvalidRequestError(
                f"with a deadline, or streamed, a request to this model may have {fitting} rows, "
                f"as many as fit the memory together; got {ask.rows}"
            )
        return whole.shape, Visit(ask, tag, parts=-(-ask.rows // most))

    def _enter_together(self, visits: Sequence[Visit]) -> None:
        coming = [(visit, place) for visit in visits for place in visit.coming()]
        try:
            guests = self._residency.enter([_part(*pair) for pair in coming])
        except Exception as error:  # noqa: BLE001 - whose it is shows when each goes alone
            if len(visits) == 1:
                self._fail(visits[0], error)
            else:
                for visit in visits:
                    self._enter_together([visit])
            return
        for (visit, place), guest in zip(coming, guests, strict=True):
            visit.stays.append(Stay(visit, guest, place, all_blocks(visit.ask.samples)))
        self._here.extend(visit for visit in visits if visit not in self._here)

    # --- stepping

    def take(self, step: Step) -> None:
        """Let the riders of a step take its blocks."""
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
            if stay.visit not in self._here:
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
        whole = _part(stay.visit, stay.place)
        first = whole.numbers[0] - stay.visit.ask.first_row
        rows = [first + position for position in stay.guest.positions]
        fresh = self._residency.enter([_party(stay.visit.ask, rows)])[0]
        fresh.positions, fresh.settled = stay.guest.positions, stay.guest.settled
        old, stay.guest = stay.guest, fresh
        old.residents.leave(old)
        stay.needs = all_blocks(stay.samples)

    # --- letting go

    def look_after(self, step: Step) -> None:
        """What follows from a step: rows that are done, partial answers, whole answers."""
        here = [stay for stay in step.riders if stay.visit in self._here]
        for stay in here:
            if stay.visit.ask.tolerance is not None:
                self._settle(stay, stay.visit.ask.tolerance)
        done = [stay for stay in here if not stay.needs]
        self._finish(done)
        for visit in dict.fromkeys(stay.visit for stay in here):
            if visit.ask.partial is not None and visit in self._here and visit.all_begun:
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
                self._here.remove(visit)
                self.answered.append(time.monotonic())
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
        for visit in list(self._here):
            if visit.ask.abandoned:
                self._let_go(visit)
            elif visit.ask.deadline is not None and now >= visit.ask.deadline:
                if visit.all_begun:
                    visit.ask.answer(self._so_far(visit))
                else:
                    visit.ask.fail(visit.ask.late())
                self._let_go(visit)

    def _fail(self, visit: Visit, error: Exception) -> None:
        visit.ask.fail(error)
        self._let_go(visit)

    def _let_go(self, visit: Visit) -> None:
        for stay in visit.stays:
            stay.guest.residents.leave(stay.guest)
        visit.stays.clear()
        if visit in self._here:
            self._here.remove(visit)
        self._residency.tidy()


def _part(visit: Visit, place: int) -> Party:
    size = -(-visit.ask.rows // visit.parts)
    first = place * size
    return _party(visit.ask, range(first, min(visit.ask.rows, first + size)))


def _party(ask: Ask[Any], rows: Sequence[int]) -> Party:
    """Some rows of an ask."""
    inputs = ask.inputs
    if len(rows) < ask.rows:
        inputs = {name: tensor[list(rows)] for name, tensor in inputs.items()}
    return Party(inputs, ask.seed, [ask.first_row + row for row in rows])
