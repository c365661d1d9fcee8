"""Teams: what is done is what one thread would do, and nothing of it stays behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
import torch

from mcdrop.engine import Team


@pytest.fixture(params=[1, 2, 4])
def team(request: pytest.FixtureRequest) -> Iterator[Team]:
    team = Team(request.param)
    yield team
    team.close()


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_results_come_in_the_order_of_the_items(team: Team, count: int) -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.01 if number == 0 else 0)
        return number * number

    assert team.map(slow_at_first, range(count)) == [number**2 for number in range(count)]


def test_all_threads_take_part_each_with_kernels_of_one_thread() -> None:
    team, threads = Team(3), torch.get_num_threads()
    meeting = threading.Barrier(3)

    def meet(_: int) -> tuple[int, int]:
        meeting.wait(30)  # or there are fewer than three
        return threading.get_ident(), torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        found = team.map(meet, range(3))
        assert len({ident for ident, _ in found}) == 3
        assert {count for _, count in found} == {1}
        assert torch.get_num_threads() == 2
        torch.set_num_threads(3)  # is given to threads that have not computed yet
        assert {count for _, count in team.map(meet, range(3))} == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
        team.close()


def test_the_first_error_is_raised_and_what_is_left_is_left(team: Team) -> None:
    done: list[int] = []

    def fail(number: int) -> None:
        if number == 5:
            raise ValueError("five")
        done.append(number)

    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="five"):
        team.map(fail, range(10_000))
    assert len(done) < 10_000
    assert torch.get_num_threads() == threads
    assert team.map(str, range(3)) == ["0", "1", "2"], "it works on"


def test_several_callers_at_a_time(team: Team) -> None:
    found: dict[int, list[int]] = {}

    def call(base: int) -> None:
        for _ in range(20):
            found[base] = team.map(lambda number: base + number, range(30))

    callers = [threading.Thread(target=call, args=(base,)) for base in (0, 1000, 2000)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == {base: list(range(base, base + 30)) for base in (0, 1000, 2000)}


def test_nothing_is_held_between_tasks(team: Team) -> None:
    class Item:
        pass

    items = [Item() for _ in range(20)]
    gone = [weakref.ref(item) for item in items]
    team.map(id, items)
    del items
    deadline = time.monotonic() + 30
    while any(item() is not None for item in gone):
        gc.collect()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_threads_go_when_it_is_closed() -> None:
    before = set(threading.enumerate())
    team = Team(4)
    mine = set(threading.enumerate()) - before
    assert len(mine) == 3
    team.close()
    assert not any(thread.is_alive() for thread in mine)
