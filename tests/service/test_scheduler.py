import asyncio
import threading
import weakref

import pytest
import torch

from service.errors import NotReadyError, QueueFullError, StartError
from service.scheduler import Scheduler, resolve_device


def scheduler(capacity=4, threads=None):
    return Scheduler(torch.device("cpu"), capacity=capacity, threads=threads)


async def occupy(running):
    """Keep the device's thread busy until the returned event is set."""
    begun, release = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert release.wait(30)
        return "released"

    task = asyncio.create_task(running.run(work))
    await asyncio.to_thread(begun.wait, 30)
    return task, release


def test_jobs_run_in_order_on_one_thread_that_is_not_the_loop():
    async def main():
        running, order = scheduler(), []
        jobs = [
            running.run(lambda n=n: (order.append(n), threading.get_ident())[1]) for n in range(4)
        ]
        threads = {timed.value for timed in await asyncio.gather(*jobs)}
        await running.close()
        assert order == [0, 1, 2, 3]
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    asyncio.run(main())


def test_waiting_and_computing_are_timed_apart():
    async def main():
        running = scheduler()
        first, release = await occupy(running)
        second = asyncio.create_task(running.run(lambda: None))
        await asyncio.sleep(0.05)
        release.set()
        assert (await first).computed >= 0.05
        timed = await second
        assert timed.queued >= 0.05 > timed.computed
        await running.close()

    asyncio.run(main())


def test_a_full_queue_refuses_but_not_what_is_unbounded():
    async def main():
        running = scheduler(capacity=2)
        first, release = await occupy(running)
        waiting = [asyncio.create_task(running.run(lambda: 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="2 requests"):
            await running.run(lambda: 1)
        unbounded = asyncio.create_task(running.run(lambda: 2, bounded=False))
        await asyncio.sleep(0)
        release.set()
        assert [(await task).value for task in (first, *waiting, unbounded)] == [
            "released",
            1,
            1,
            2,
        ]
        await running.close()

    asyncio.run(main())


def test_a_cancelled_job_is_skipped_and_frees_its_place():
    async def main():
        running, ran = scheduler(capacity=1), []
        first, release = await occupy(running)
        withdrawn = asyncio.create_task(running.run(lambda: ran.append("withdrawn")))
        await asyncio.sleep(0)
        withdrawn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await withdrawn
        await asyncio.sleep(0)
        taken = asyncio.create_task(running.run(lambda: ran.append("taken")))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, taken)
        await running.close()
        assert ran == ["taken"]

    asyncio.run(main())


def test_a_failing_job_fails_alone():
    async def main():
        running = scheduler()
        results = await asyncio.gather(
            running.run(lambda: 1 / 0), running.run(lambda: "fine"), return_exceptions=True
        )
        assert isinstance(results[0], ZeroDivisionError)
        assert results[1].value == "fine"
        assert running.accepting
        await running.close()

    asyncio.run(main())


def test_closing_finishes_what_is_queued_and_takes_no_more():
    async def main():
        running = scheduler()
        first, release = await occupy(running)
        queued = [asyncio.create_task(running.run(lambda n=n: n)) for n in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(running.close())
        await asyncio.sleep(0.01)
        assert not running.accepting
        with pytest.raises(NotReadyError, match="stopping"):
            await running.run(lambda: None)
        assert not closing.done()
        release.set()
        await closing
        assert (await first).value == "released"
        assert [(await task).value for task in queued] == [0, 1, 2]

    asyncio.run(main())


def test_the_thread_count_holds_where_the_work_is_done():
    async def main():
        running = scheduler(threads=1)
        assert (await running.run(torch.get_num_threads)).value == 1
        await running.close()

    asyncio.run(main())


def test_nothing_of_a_job_outlives_it():
    async def main():
        running = scheduler()
        big = torch.zeros(8)
        seen = weakref.ref(big)
        await running.run(lambda tensor=big: tensor.sum().item())
        del big
        await asyncio.sleep(0.05)
        assert seen() is None
        await running.close()

    asyncio.run(main())


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    best = resolve_device("auto")
    assert best.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(StartError, match="cuda:99"):
        resolve_device("cuda:99")
