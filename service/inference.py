"""One request's way through the server: limits, the queue, the prediction, the answer's arrays."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from fastapi import Request
from starlette.requests import ClientDisconnect
from torch import Tensor

from mcdrop.calibration import Abstention, Calibration
from mcdrop.prediction import Prediction
from mcdrop.predictor import MOST_SAMPLES
from service.batching.ask import Ask, Timed
from service.errors import InvalidRequestError, QueueFullError
from service.loaded import Loaded
from service.registry import Registry
from service.repository.repository import Repository
from service.scheduler import Scheduler
from service.settings import Settings
from service.telemetry.request_ids import current
from service.telemetry.telemetry import Telemetry, reason_of
from service.telemetry.tracing import Tracing
from service.wire.tensors import from_nested

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Runtime:
    """What the routes work with; made when the application starts."""

    settings: Settings
    registry: Registry
    scheduler: Scheduler
    repository: Repository
    telemetry: Telemetry
    tracing: Tracing | None = None


async def runtime(request: Request) -> Runtime:
    """The running application's `Runtime`, as a FastAPI dependency.

    Not a sync one, which a thread would run.
    """
    found = request.app.state.runtime
    assert isinstance(found, Runtime)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A checked question: tensors by input name, on the CPU.

    Attributes:
        inputs: `[B, ...]`.
        samples: of each row, at most.
        seed: of the masks.
        interval: level of the interval that is wanted.
        sets: level of the conformal sets that are wanted.
        abstain_above: uncertainty above which no answer is to be given.
        tolerance: standard error at which a row is done.
        deadline: on the monotonic clock; when it passes, what there is is the answer.
    """

    inputs: dict[str, Tensor]
    samples: int
    seed: int
    interval: float | None = None
    sets: float | None = None
    abstain_above: float | None = None
    tolerance: float | None = None
    deadline: float | None = None


def check_inputs(loaded: Loaded, names: list[str]) -> None:
    """Compare the inputs that came with those that the model takes.

    Raises:
        InvalidRequestError: one is missing, unknown or there twice.
    """
    expected = [spec.name for spec in loaded.manifest.inputs]
    if sorted(names) != sorted(expected):
        raise InvalidRequestError(
            f"model {loaded.name!r} takes the inputs {', '.join(map(repr, expected))}; "
            f"got {', '.join(map(repr, names)) or 'none'}"
        )


def from_rows(loaded: Loaded, inputs: list[Any] | dict[str, list[Any]]) -> dict[str, Tensor]:
    """Turn the native API's nested lists into tensors by input name.

    Raises:
        InvalidRequestError: they do not fit the model.
    """
    specs = {spec.name: spec for spec in loaded.manifest.inputs}
    if isinstance(inputs, list):
        if len(specs) > 1:
            names = ", ".join(map(repr, specs))
            raise InvalidRequestError(
                f"model {loaded.name!r} has the inputs {names}: send an object with a list for each"
            )
        inputs = {next(iter(specs)): inputs}
    check_inputs(loaded, list(inputs))
    return {name: from_nested(inputs[name], spec) for name, spec in specs.items()}


def make_query(
    run: Runtime,
    loaded: Loaded,
    inputs: dict[str, Tensor],
    *,
    samples: int | None,
    seed: int | None,
    interval: float | None = None,
    sets: float | None = None,
    abstain_above: float | None = None,
    tolerance: float | None = None,
    deadline_ms: float | None = None,
) -> Query:
    """Fill in the model's defaults and hold the question against the server's limits.

    Raises:
        InvalidRequestError: too many rows or samples, or a different number of rows in two inputs.
    """
    defaults, limits = loaded.manifest.defaults, run.settings
    rows = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(rows.values())) > 1:
        said = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise InvalidRequestError(f"all inputs need the same number of rows; {said}")
    count = next(iter(rows.values()))
    if count > limits.max_rows:
        raise InvalidRequestError(
            f"a request may have {limits.max_rows} rows, this one has {count}; "
            "send them in several requests, or raise MCDROP_MAX_ROWS"
        )
    if samples is None:
        samples = defaults.samples
        if tolerance is not None:  # which decides, up to a limit
            samples = min(MOST_SAMPLES, limits.max_samples)
    if samples > limits.max_samples:
        raise InvalidRequestError(
            f"a request may ask for {limits.max_samples} samples, this one asks for {samples}; "
            "ask for fewer, or raise MCDROP_MAX_SAMPLES"
        )
    seed = defaults.seed if seed is None else seed
    deadline = None if deadline_ms is None else time.monotonic() + deadline_ms / 1e3
    return Query(inputs, samples, seed, interval, sets, abstain_above, tolerance, deadline)


async def infer(
    request: Request, run: Runtime, loaded: Loaded, query: Query
) -> Timed[dict[str, Array]]:
    """`predicted`, given up when the caller goes away.

    Raises:
        ClientDisconnect: the caller went away.
        QueueFullError: too many requests are waiting.
        InputError: the library refused the input.
    """
    return await unless_gone(request, predicted(run, loaded, query))


def require_room(run: Runtime, loaded: Loaded) -> None:
    """Refuse a request that the queue has no room for before its body is read: it costs less.

    Raises:
        QueueFullError: too many requests are waiting.
    """
    try:
        run.scheduler.require_room(loaded)
    except QueueFullError as error:
        run.telemetry.failed(loaded.name, loaded.version, reason_of(error))
        raise


async def predicted(run: Runtime, loaded: Loaded, query: Query) -> Timed[dict[str, Array]]:
    """Queue a question and wait for its answer; cancelling the wait frees its rows.

    Returns:
        The prediction's fields as C-contiguous arrays; where asked for also `lower` and `upper`,
        `set` (one for each class) and `abstain`.

    Raises:
        QueueFullError: too many requests are waiting.
        DeadlineError: the deadline passed before every row had a sample.
        InputError: the library refused the input.
    """
    return await _predicted(run, loaded, query)


async def _predicted(
    run: Runtime,
    loaded: Loaded,
    query: Query,
    tell: Callable[[Timed[dict[str, Array]]], None] | None = None,
) -> Timed[dict[str, Array]]:
    began = time.monotonic()
    _announce(run, loaded, query)
    try:
        timed = await run.scheduler.ask(_ask(loaded, query, tell))
    except BaseException as error:
        run.telemetry.failed(loaded.name, loaded.version, reason_of(error))
        raise
    _record(run, loaded, query, timed, time.monotonic() - began)
    return timed


def _announce(run: Runtime, loaded: Loaded, query: Query) -> None:
    """Say which model it is about: to the log, and to the trace."""
    if request := current.get():
        request.model, request.version = loaded.name, loaded.version
    if run.tracing is not None:
        rows = len(next(iter(query.inputs.values())))
        run.tracing.begin(loaded.name, loaded.version, rows=rows, samples=query.samples)


def _record(
    run: Runtime, loaded: Loaded, query: Query, timed: Timed[dict[str, Array]], total: float
) -> None:
    """Count an answer."""
    model, fields, early = (loaded.name, loaded.version), timed.value, 0
    if query.tolerance is not None:
        early = int(np.count_nonzero(fields["samples"] < query.samples))
    run.telemetry.rows_done(*model, fields, early=early)
    run.telemetry.answered(
        *model,
        rows=len(fields["samples"]),
        queued=timed.queued,
        computed=timed.computed,
        total=total,
    )
    if run.tracing is not None:
        run.tracing.computed(timed.queued, timed.computed)


async def streamed(
    run: Runtime, loaded: Loaded, query: Query
) -> AsyncGenerator[tuple[bool, Timed[dict[str, Array]]]]:
    """What `predicted` would say after each block of samples, and at last what it says.

    Yields whether it is the last answer, and the answer.

    Where the answers are taken more slowly than they come, some in between are left out. Closing
    the iterator frees the rows.

    Raises:
        QueueFullError: too many requests are waiting.
        InputError: the library refused the input.
    """
    news = asyncio.Event()
    latest: list[Timed[dict[str, Array]]] = []

    def tell(timed: Timed[dict[str, Array]]) -> None:
        latest[:] = [timed]
        news.set()

    answer = asyncio.ensure_future(_predicted(run, loaded, query, tell))
    answer.add_done_callback(lambda _: news.set())
    try:
        while not answer.done():
            await news.wait()
            news.clear()
            if latest and not answer.done():
                yield False, latest.pop()
        yield True, answer.result()
    finally:
        answer.cancel()


def _ask(
    loaded: Loaded,
    query: Query,
    partial_answer: Callable[[Timed[dict[str, Array]]], None] | None = None,
) -> Ask[dict[str, Array]]:
    return Ask(
        loaded,
        query.inputs,
        query.samples,
        query.seed,
        partial(_render, loaded, query),
        tolerance=query.tolerance,
        deadline=query.deadline,
        partial=partial_answer,
    )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for work on behalf of a caller; cancel it when the caller goes away.

    Raises:
        ClientDisconnect: the caller went away.
    """
    task, waiting, given_up = asyncio.current_task(), True, False
    assert task is not None

    def give_up(gone: asyncio.Future[None]) -> None:
        nonlocal given_up
        if waiting and not gone.cancelled():
            given_up = task.cancel()

    gone = asyncio.ensure_future(_disconnected(request))
    gone.add_done_callback(give_up)
    try:
        return await work
    except asyncio.CancelledError:
        # the stop of the server cancels too, and is not to be taken for the caller's leaving
        if given_up and task.cancelling() == 1:
            raise ClientDisconnect from None
        raise
    finally:
        waiting = False
        gone.cancel()
        if given_up:
            task.uncancel()


async def _disconnected(request: Request) -> None:
    # the body has been read, so the next message that matters is the disconnect
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _render(loaded: Loaded, query: Query, prediction: Prediction) -> dict[str, Array]:
    fields = prediction.fields()
    predictor = loaded.predictor
    calibration = predictor.calibration or Calibration(predictor.task)
    if query.interval is not None:
        fields["lower"], fields["upper"] = calibration.interval(prediction, query.interval)
    if query.sets is not None:
        fields["set"] = calibration.conformal_sets(prediction, query.sets)
    if query.abstain_above is not None:
        policy = Abstention(query.abstain_above, math.nan)
        fields["abstain"] = policy(calibration.uncertainty(prediction))
    return {name: np.ascontiguousarray(field.numpy()) for name, field in fields.items()}
