"""Who rides with whom, round the mask bank."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.stay import Stay, Visit, all_blocks, blocks, run_length
from service.batching.steps import plan_step


@dataclass
class Question:
    samples: int
    tolerance: float | None = None
    partial: object = None
    in_order: bool = False


@dataclass
class Rows:
    slots: list = field(default_factory=list)


def plan(chosen, others, most_rows, most_blocks):
    return plan_step(chosen, others, most_rows, lambda rows: most_blocks)


def stay(samples, needs, rows=1, **how):
    return Stay(Visit(Question(samples, **how), 0.0, 1), Rows([0] * rows), 0, needs)


@pytest.mark.parametrize(("samples", "expected"), [(1, 1), (16, 1), (17, 3), (100, 127)])
def test_blocks_of_samples(samples, expected):
    assert all_blocks(samples) == expected


@given(st.integers(0, 2**80))
def test_bits_and_numbers(bits):
    assert sum(1 << block for block in blocks(bits)) == bits
    for block in blocks(bits):
        length = run_length(bits, block)
        assert bits >> block & (1 << length) - 1 == (1 << length) - 1
        assert not bits >> block + length & 1


def test_a_newcomer_joins_where_the_others_are():
    newcomer, resident = stay(100, 0b1111111), stay(100, 0b1111000)
    step = plan(newcomer, [resident], 64, 100)
    assert step.riders == (newcomer, resident)
    assert (step.first, step.count) == (3, 4)
    assert (step.start, step.stops, step.rows) == (48, [100, 100], 2)


def test_the_block_that_most_rows_need_goes_first():
    chosen = stay(64, 0b1111)
    one, many = stay(64, 0b0001), stay(64, 0b0100, rows=5)
    step = plan(chosen, [one, many], 64, 100)
    assert step.riders == (chosen, many)
    assert (step.first, step.count) == (2, 1)


def test_who_needs_less_of_a_block_stops_there():
    step = plan(stay(64, 0b1000), [stay(50, 0b1000), stay(64, 0b1000)], 64, 100)
    assert step.stops == [64, 50, 64]


def test_rows_are_bounded_but_for_the_chosen_one():
    big = stay(16, 1, rows=100)
    assert plan(big, [stay(16, 1)], 64, 1).riders == (big,)
    chosen, others = stay(16, 1, rows=60), [stay(16, 1, rows=5), stay(16, 1, rows=4)]
    assert plan(chosen, others, 64, 1).riders == (chosen, others[1])


def test_in_order_means_the_lowest_block():
    chosen = stay(64, 0b1110, in_order=True)
    other = stay(64, 0b1100)
    step = plan(chosen, [other], 64, 100)
    assert (step.first, step.count, step.riders) == (1, 3, (chosen,))
    rider = stay(64, 0b1100, in_order=True)
    step = plan(stay(64, 0b1100), [rider], 64, 100)
    assert (step.first, step.count, len(step.riders)) == (2, 2, 2)


@pytest.mark.parametrize("how", [{"tolerance": 0.1}, {"partial": print}])
def test_who_looks_after_each_block_takes_one_at_a_time(how):
    step = plan(stay(64, 0b1111), [stay(64, 0b1111, in_order=True, **how)], 64, 100)
    assert (step.first, step.count, len(step.riders)) == (0, 1, 2)


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 5), st.booleans()), min_size=1),
    st.integers(1, 40),
    st.randoms(),
)
def test_every_step_is_one_that_its_riders_need(asked, most_blocks, random):
    stays = []
    for samples, rows, in_order in asked:
        needs = all_blocks(samples)
        if not in_order:
            needs = needs & random.getrandbits(30) or needs
        stays.append(stay(samples, needs, rows, in_order=in_order))
    rounds = 0
    while stays:
        chosen, *others = stays
        step = plan(chosen, others, 8, most_blocks)
        wanted = ((1 << step.count) - 1) << step.first
        assert 1 <= step.count <= most_blocks
        assert chosen in step.riders
        assert step.rows <= 8 or step.riders == (chosen,)
        for rider in step.riders:
            assert rider.needs & wanted == wanted
            if rider.visit.ask.in_order:
                assert rider.needs & ((1 << step.first) - 1) == 0
            rider.take(step.first, step.count)
        stays = [s for s in stays if s.needs]
        rounds += 1
    assert rounds <= sum(-(-samples // 16) for samples, _, _ in asked)


def test_how_many_blocks_depends_on_all_rows_of_the_step():
    riders = [stay(640, (1 << 40) - 1, rows=3) for _ in range(4)]
    step = plan_step(riders[0], riders[1:], 64, lambda rows: 60 // rows)
    assert (step.rows, step.count) == (12, 5)
