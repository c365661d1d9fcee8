"""The scheduler with real models: everybody gets what the library gives, whoever is beside."""

import asyncio
import threading
import time
import weakref

import pytest
import torch

import mcdrop
from mcdrop.errors import InputError
from mcdrop.prediction import Prediction
from service.batching.ask import Ask
from service.batching.devices import resolve_devices
from service.errors import (
    DeadlineError,
    InvalidRequestError,
    NotReadyError,
    QueueFullError,
    StartError,
)
from service.fields import field_specs
from service.loaded import Loaded
from service.scheduler import Scheduler

CPU = torch.device("cpu")


def scheduler(capacity=64, devices=1, **options):
    return Scheduler([CPU] * devices, capacity=capacity, **options)


def load(repository, name, version=1, devices=1, **options):
    read = [mcdrop.load(repository / name / str(version), **options) for _ in range(devices)]
    manifest = read[0].manifest
    return Loaded(
        name, version, tuple(read), tuple(mc.residency() for mc in read), manifest,
        field_specs(manifest),
    )  # fmt: skip


@pytest.fixture(scope="module")
def meter(repository):
    return load(repository, "meter")


@pytest.fixture(scope="module")
def shapes(repository):
    return load(repository, "shapes")


def rows_of(loaded, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        spec.name: torch.randint(0, 10, (count, *spec.smallest()), generator=generator)
        if spec.dtype == "int64"
        else torch.randn((count, *spec.smallest()), generator=generator)
        for spec in loaded.manifest.inputs
    }


def as_it_is(prediction):
    return prediction


def ask(loaded, count=1, samples=64, seed=0, *, data=0, **how):
    return Ask(loaded, rows_of(loaded, count, data), samples, seed, as_it_is, **how)


def close(found, expected, bound=1e-5):
    for name, value in expected.fields().items():
        torch.testing.assert_close(
            found.fields()[name], value, rtol=bound, atol=bound, equal_nan=True, msg=name
        )


def alone(question):
    x = dict(question.inputs)
    return question.loaded.predictor.predict(
        x, samples=question.samples, seed=question.seed, tolerance=question.tolerance,
        first_row=question.first_row,
    )  # fmt: skip


async def occupy(running, worker=0):
    """Keep the device's thread busy until the returned event is set."""
    begun, release = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert release.wait(30)
        return "released"

    task = asyncio.create_task(running.run(work, worker=worker))
    await asyncio.to_thread(begun.wait, 30)
    return task, release


@pytest.mark.parametrize("devices", [1, 2])
def test_whoever_is_beside_the_answer_is_the_library_s(repository, devices):
    models = [
        load(repository, name, devices=devices) for name in ("meter", "shapes", "pair", "tags")
    ]
    models.append(load(repository, "meter", devices=devices, masks="independent"))
    models.append(load(repository, "shapes", devices=devices, sampling="iid"))

    async def main():
        running, random = scheduler(devices=devices, step_rows=6), torch.Generator().manual_seed(1)

        def pick(*choices):
            return choices[int(torch.randint(len(choices), (), generator=random))]

        asks, tasks = [], []
        for number in range(80):
            asks.append(
                ask(
                    pick(*models), pick(1, 1, 2, 9), pick(1, 7, 16, 64, 100, 320),
                    pick(0, 0, 7, 5, 6), data=number, tolerance=pick(None, None, 0.02),
                    first_row=pick(0, 3),
                )
            )  # fmt: skip
            tasks.append(asyncio.create_task(running.ask(asks[-1])))
            if number % 7 == 0:
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(*tasks)
        await running.close()
        return asks, answers

    asks, answers = asyncio.run(main())
    for question, timed in zip(asks, answers, strict=True):
        close(timed.value, alone(question))
        assert timed.queued >= 0 <= timed.computed


def test_more_seeds_than_are_resident_at_a_time(shapes):
    async def main():
        running = scheduler()
        asks = [ask(shapes, 1, 64, seed, data=seed) for seed in range(40)]
        answers = await asyncio.gather(*(running.ask(question) for question in asks))
        await running.close()
        return asks, answers

    for question, timed in zip(*asyncio.run(main()), strict=True):
        close(timed.value, alone(question))
    assert shapes.residencies[0].other_seeds == 0


def test_a_long_ask_does_not_hold_up_a_short_one(shapes):
    async def main():
        running = scheduler()
        long = asyncio.create_task(running.ask(ask(shapes, 64, 100_000)))
        await asyncio.sleep(0.1)
        short = [await running.ask(ask(shapes, 1, 16, data=n)) for n in range(10)]
        assert not long.done()
        long.cancel()
        await running.close()
        return short

    for timed in asyncio.run(main()):
        assert timed.value.samples.tolist() == [16]


def test_models_do_not_starve_one_another(meter, shapes):
    async def main():
        running = scheduler(capacity=200)
        flood = [asyncio.create_task(running.ask(ask(shapes, 8, 4_000))) for _ in range(150)]
        await asyncio.sleep(0.05)
        for number in range(5):
            await running.ask(ask(meter, 1, 64, data=number))
        done = sum(task.done() for task in flood)
        for task in flood:
            task.cancel()
        await running.close()
        return done

    assert asyncio.run(main()) < 150


def test_a_full_queue_refuses_but_only_its_own_model(meter, shapes):
    async def main():
        running = scheduler(capacity=2)
        first, release = await occupy(running)
        waiting = [asyncio.create_task(running.ask(ask(meter))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(
            QueueFullError, match="2 requests are waiting for model 'meter'"
        ) as full:
            await running.ask(ask(meter))
        assert int(full.value.headers["retry-after"]) >= 1
        other = asyncio.create_task(running.ask(ask(shapes)))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *waiting, other)
        await running.close()

    asyncio.run(main())


def test_a_cancelled_ask_frees_its_place_in_the_queue(meter):
    async def main():
        running = scheduler(capacity=1)
        first, release = await occupy(running)
        withdrawn = asyncio.create_task(running.ask(ask(meter)))
        await asyncio.sleep(0)
        withdrawn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await withdrawn
        taken = asyncio.create_task(running.ask(ask(meter)))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, taken)
        await running.close()

    asyncio.run(main())


def test_a_cancelled_ask_frees_its_rows(shapes):
    async def main():
        running = scheduler()
        endless = asyncio.create_task(running.ask(ask(shapes, 32, 10**7)))
        lanes = running._workers[0]._lanes
        await until(lambda: shapes in lanes and lanes[shapes].rows == 32)
        endless.cancel()
        await until(lambda: lanes[shapes].rows == 0)
        await running.close()

    asyncio.run(main())


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_deadline_gives_what_there_is_and_that_is_a_prediction(shapes):
    async def main():
        running = scheduler()
        beside = asyncio.create_task(running.ask(ask(shapes, 2, 320, data=9)))
        question = ask(shapes, 3, 10**7, deadline=time.monotonic() + 0.3)
        timed = await running.ask(question)
        await beside
        await running.close()
        return question, timed.value

    question, found = asyncio.run(main())
    (samples,) = set(found.samples.tolist())
    assert 16 <= samples < 10**7
    assert samples % 16 == 0
    expected = shapes.predictor.predict(dict(question.inputs), samples=samples, seed=0)
    close(found, expected)


def test_a_deadline_that_passes_in_the_queue(meter):
    async def main():
        running = scheduler()
        first, release = await occupy(running)
        late = asyncio.create_task(running.ask(ask(meter, deadline=time.monotonic() + 0.01)))
        await asyncio.sleep(0.05)
        release.set()
        with pytest.raises(DeadlineError, match="before every row had a sample"):
            await late
        await first
        await running.close()

    asyncio.run(main())


def test_partial_answers_are_predictions_of_their_own(shapes):
    seen = []

    async def main():
        running = scheduler()
        question = ask(shapes, 2, 96, partial=seen.append)
        timed = await running.ask(question)
        await running.close()
        return question, timed.value

    question, whole = asyncio.run(main())
    close(whole, alone(question))
    assert [timed.value.samples.tolist() for timed in seen] == [[n, n] for n in range(16, 96, 16)]
    for timed in seen:
        samples = int(timed.value.samples[0])
        close(timed.value, shapes.predictor.predict(dict(question.inputs), samples=samples, seed=0))


def test_rows_beyond_the_memory_cannot_be_streamed(repository):
    small = load(repository, "shapes", memory_budget=4096)

    async def main():
        running = scheduler()
        with pytest.raises(InvalidRequestError, match="fit the memory together; got 200"):
            await running.ask(ask(small, 200, 32, partial=lambda _: None))
        question = ask(small, 200, 32)
        timed = await running.ask(question)
        await running.close()
        return question, timed.value

    question, found = asyncio.run(main())
    close(found, alone(question))


def test_one_that_fails_fails_alone(repository):
    pair = load(repository, "pair")

    async def main():
        running = scheduler()
        _, release = await occupy(running)  # so that they come in together
        asks = [ask(pair, 2, 64, data=n) for n in range(6)]
        asks[3].inputs = {**asks[3].inputs, "ids": torch.full((2, 1), 10)}
        asks[4].render = lambda prediction: 1 / 0
        tasks = [asyncio.create_task(running.ask(question)) for question in asks]
        await asyncio.sleep(0)
        release.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert running.accepting
        await running.close()
        return asks, answers

    asks, answers = asyncio.run(main())
    assert isinstance(answers[3], InputError)
    assert isinstance(answers[4], ZeroDivisionError)
    for number in (0, 1, 2, 5):
        close(answers[number].value, alone(asks[number]))


class Late(torch.nn.Module):
    """Looks numbers up behind its dropout: a bad one shows in a step, not on the way in."""

    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.table = torch.nn.Embedding(10, 3)

    def forward(self, x, ids):
        keep = self.drop(x).sum(1).mul(0).long()
        return self.table(ids[:, 0] + keep) * self.drop(x)[:, :3]


def test_one_that_fails_in_a_step_fails_alone(tmp_path):
    torch.manual_seed(0)
    ids = torch.zeros(2, 1, dtype=torch.int64)
    mc = mcdrop.MCDropout(Late(), (torch.randn(2, 4), ids), task="classification")
    mc.save(tmp_path / "late" / "1", name="late")
    late = load(tmp_path, "late")

    async def main():
        running = scheduler()
        _, release = await occupy(running)
        asks = [ask(late, 2, 64, data=n, tolerance=(None, 0.01)[n % 2]) for n in range(5)]
        asks[2].inputs = {**asks[2].inputs, "ids": torch.full((2, 1), 10)}
        tasks = [asyncio.create_task(running.ask(question)) for question in asks]
        await asyncio.sleep(0)
        release.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await running.close()
        return asks, answers

    asks, answers = asyncio.run(main())
    assert isinstance(answers[2], InputError)
    for number in (0, 1, 3, 4):
        close(answers[number].value, alone(asks[number]))
    assert sum(map(len, late.residencies[0]._residents.values())) == 0


def test_jobs_run_in_order_on_one_thread_that_is_not_the_loop(meter):
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


def test_closing_finishes_what_was_taken_and_takes_no_more(shapes):
    async def main():
        running = scheduler()
        _, release = await occupy(running)
        asks = [ask(shapes, 3, 200, data=n) for n in range(5)]
        taken = [asyncio.create_task(running.ask(question)) for question in asks]
        await asyncio.sleep(0)
        closing = asyncio.create_task(running.close())
        await asyncio.sleep(0.01)
        assert not running.accepting
        with pytest.raises(NotReadyError, match="stopping"):
            await running.ask(ask(shapes))
        with pytest.raises(NotReadyError, match="stopping"):
            await running.run(lambda: None)
        assert not closing.done()
        release.set()
        await closing
        for question, task in zip(asks, taken, strict=True):
            close((await task).value, alone(question))

    asyncio.run(main())


def test_the_thread_count_holds_where_the_work_is_done():
    async def main():
        running = scheduler(threads=1)
        assert (await running.run(torch.get_num_threads)).value == 1
        await running.close()
        several = scheduler(devices=2)
        share = max(1, torch.get_num_threads() // 2)
        for worker in (0, 1):
            assert (await several.run(torch.get_num_threads, worker=worker)).value == share
        await several.close()

    asyncio.run(main())


def test_nothing_outlives_its_use(repository):
    async def main():
        running = scheduler()
        big = torch.zeros(8)
        held = [weakref.ref(big)]
        await running.run(lambda tensor=big: tensor.sum().item())
        del big
        model = load(repository, "shapes")
        held += [weakref.ref(model), weakref.ref(model.predictor)]
        await running.ask(ask(model, 2, 64))
        question = ask(model, 2, 64)
        held += [weakref.ref(tensor) for tensor in question.inputs.values()]
        await running.ask(question)
        del question, model
        await until(lambda: not any(reference() for reference in held))
        await running.close()

    asyncio.run(main())


def test_devices():
    assert resolve_devices("cpu") == (CPU,)
    assert resolve_devices("cpu,cpu") == (CPU, CPU)
    best = resolve_devices("auto")
    assert len(best) == max(1, torch.cuda.device_count())
    assert best[0].type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(StartError, match="cuda:99"):
        resolve_devices("cpu,cuda:99")


def test_predictions_are_what_is_rendered(meter):
    async def main():
        running = scheduler()
        timed = await running.ask(ask(meter))
        await running.close()
        return timed.value

    assert isinstance(asyncio.run(main()), Prediction)
