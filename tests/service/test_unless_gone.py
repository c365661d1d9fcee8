"""Work on behalf of a caller: who goes away is told from a server that stops."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from service.inference import unless_gone


class Caller:
    """What a request is to `unless_gone`."""

    def __init__(self):
        self.left = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}


async def forever(log):
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise


def run(main):
    return asyncio.run(asyncio.wait_for(main(), 30))


async def turns(number=5):
    for _ in range(number):
        await asyncio.sleep(0)


def test_the_answer_of_who_stays():
    async def main():
        async def work():
            await asyncio.sleep(0)
            return 3

        before = asyncio.all_tasks()
        assert await unless_gone(Caller(), work()) == 3
        await turns()
        assert asyncio.all_tasks() == before, "nobody listens any more"

    run(main)


def test_who_goes_away_cancels_the_work_and_nothing_else():
    async def main():
        caller, log = Caller(), []
        waiting = asyncio.ensure_future(unless_gone(caller, forever(log)))
        await turns()
        caller.left.set()
        with pytest.raises(ClientDisconnect):
            await waiting
        assert log == ["cancelled"]
        assert not waiting.cancelled()

    run(main)


def test_a_stop_is_a_stop_also_when_the_caller_goes_away_at_that_moment():
    async def main():
        for leaves in (False, True):
            caller, log = Caller(), []
            waiting = asyncio.ensure_future(unless_gone(caller, forever(log)))
            await turns()
            waiting.cancel()
            if leaves:
                caller.left.set()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert log == ["cancelled"]

    run(main)


def test_an_answer_and_a_leaving_at_one_moment_leave_the_task_alone():
    """Whatever came first: nothing is cancelled that comes after."""

    async def main():
        for order in range(4):
            caller, answer = Caller(), asyncio.get_running_loop().create_future()

            async def after(caller=caller, answer=answer):
                try:
                    found = await unless_gone(caller, asyncio.wait_for(answer, 30))
                except ClientDisconnect:
                    found = None
                await turns(10)
                return found

            waiting = asyncio.ensure_future(after())
            await turns()
            if order % 2:
                caller.left.set()
            if order >= 2:
                await asyncio.sleep(0)
            answer.set_result(order)
            caller.left.set()
            assert await waiting in (order, None)
            assert not waiting.cancelling()

    run(main)


def test_errors_of_the_work_are_its_own():
    async def main():
        async def fail():
            await asyncio.sleep(0)
            raise ValueError("of the work")

        with pytest.raises(ValueError, match="of the work"):
            await unless_gone(Caller(), fail())

    run(main)
