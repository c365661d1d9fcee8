"""Whose turn it is, by a clock on which every step takes a second."""

from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace

import pytest

from mcdrop.sampling import BLOCK
from service.batching.lane import Lane


@dataclass(eq=False)
class Question:
    """One row of a caller that waits."""

    blocks: int
    answered: bool = False
    inputs: dict = field(default_factory=dict)
    rows: int = 1
    seed: int = 0
    first_row: int = 0
    entered: float | None = None
    tolerance = partial = deadline = None
    in_order = together = abandoned = False

    @property
    def samples(self):
        return self.blocks * BLOCK

    def answer(self, prediction):
        self.answered = True

    def fail(self, error):
        raise error


class Rows:
    """Rows of any model: as a residency and as the residents in it."""

    seed, other_seeds, first_look, kind = 0, 0, 64, "rows"

    def check(self, inputs):
        return inputs

    def most_rows(self, party, limit):
        return limit

    def enter(self, parties):
        return [SimpleNamespace(residents=self, slots=[0], positions=[0]) for _ in parties]

    def step(self, guests, start, stops):
        pass

    def predictions(self, guests):
        return [None] * len(guests)

    def leave(self, *guests):
        pass

    def tidy(self):
        pass


@pytest.fixture
def lane(monkeypatch):
    """One row in a step, so that nobody rides along."""
    seconds = SimpleNamespace(perf_counter=count().__next__, monotonic=lambda: 0.0)
    monkeypatch.setattr("service.batching.lane.time", seconds)
    return Lane("any", 1, Rows(), step_rows=1)


@pytest.mark.parametrize("callers", [1, 4, 12])
def test_callers_that_come_again_and_again_leave_a_long_visit_its_share(lane, callers):
    """Were a newcomer's tag that of whoever was served last, it would stay what it is as long as
    newcomers come, each of them would go first, and the long visit would wait for ever."""
    long = Question(10)
    lane.enter([long])
    beside, steps = [], 0
    while not long.answered:
        beside = [question for question in beside if not question.answered]
        newcomers = [Question(1) for _ in range(callers - len(beside))]
        lane.enter(newcomers)
        beside += newcomers
        lane.advance()
        steps += 1
        assert steps <= 10 * (callers + 1), "less than an even share"
    assert steps > 9 * (callers + 1), "more than an even share"


def test_a_newcomer_is_served_at_once_and_then_in_turn(lane):
    """It is neither behind what others have had before it came, nor does it catch up with that."""
    lane.enter([Question(100), Question(100)])
    for _ in range(20):
        lane.advance()
    newcomer = Question(3)
    lane.enter([newcomer])
    steps = 0
    while not newcomer.answered:
        lane.advance()
        steps += 1
    assert 6 < steps <= 9


def test_of_two_whose_turn_it_is_the_one_that_needs_less_goes_first(lane):
    asked = [Question(10), Question(1)]
    lane.enter(asked)
    lane.advance()
    assert [question.answered for question in asked] == [False, True]
