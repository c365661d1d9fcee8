"""One request's way through the server: limits, the queue, the prediction, the answer's arrays."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, TypeAlias, TypeVar

import numpy as np
from fastapi import Request
from starlette.requests import ClientDisconnect
from torch import Tensor

from mcdrop.calibration import Abstention, Calibration
from mcdrop.predictor import MOST_SAMPLES
from service.errors import InvalidRequestError
from service.registry import Loaded, Registry
from service.repository import Repository
from service.scheduler import Scheduler, Timed
from service.settings import Settings
from service.tensors import from_nested

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Runtime:
    """What the routes work with; made when the application starts."""

    settings: Settings
    registry: Registry
    scheduler: Scheduler
    repository: Repository


def runtime(request: Request) -> Runtime:
    """The running application's `Runtime`, as a FastAPI dependency."""
    found = request.app.state.runtime
    assert isinstance(found, Runtime)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A checked question: tensors by input name, on the CPU."""

    inputs: dict[str, Tensor]
    samples: int
    seed: int
    interval: float | None = None
    sets: float | None = None
    abstain_above: float | None = None
    tolerance: float | None = None


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
    return Query(inputs, samples, seed, interval, sets, abstain_above, tolerance)


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


async def predicted(run: Runtime, loaded: Loaded, query: Query) -> Timed[dict[str, Array]]:
    """Queue a question and wait for its answer; cancelling the wait frees its rows.

    Returns:
        The prediction's fields as C-contiguous arrays; where asked for also `lower` and `upper`,
        `set` (one for each class) and `abstain`.

    Raises:
        QueueFullError: too many requests are waiting.
        InputError: the library refused the input.
    """
    return await answered(run, partial(_compute, loaded, query))


async def answered(run: Runtime, compute: Callable[[Event], T]) -> Timed[T]:
    """Queue work and wait for it; cancelling the wait frees the queue and the device.

    Args:
        run: with the queue.
        compute: called on the device's thread, with an event that is set when nobody waits.

    Raises:
        QueueFullError: too many requests are waiting.
    """
    abandoned = Event()
    try:
        return await run.scheduler.run(partial(compute, abandoned))
    finally:
        abandoned.set()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for work on behalf of a caller; cancel it when the caller goes away.

    Raises:
        ClientDisconnect: the caller went away.
    """
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


async def _disconnected(request: Request) -> None:
    # the body has been read, so the next message that matters is the disconnect
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _compute(loaded: Loaded, query: Query, abandoned: Event) -> dict[str, Array]:
    def check(done: int, total: int) -> None:  # noqa: ARG001 - called after each chunk
        if abandoned.is_set():
            raise ClientDisconnect

    predictor = loaded.predictor
    inputs = {name: tensor.to(predictor.device) for name, tensor in query.inputs.items()}
    x = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    prediction = predictor.predict(
        x, samples=query.samples, seed=query.seed, tolerance=query.tolerance, progress=check
    )
    fields = prediction.fields()
    calibration = predictor.calibration or Calibration(predictor.task)
    if query.interval is not None:
        fields["lower"], fields["upper"] = calibration.interval(prediction, query.interval)
    if query.sets is not None:
        fields["set"] = calibration.conformal_sets(prediction, query.sets)
    if query.abstain_above is not None:
        policy = Abstention(query.abstain_above, math.nan)
        fields["abstain"] = policy(calibration.uncertainty(prediction))
    # the copy to the host waits for the device, so that the time measured is the whole of it
    return {name: np.ascontiguousarray(field.cpu().numpy()) for name, field in fields.items()}
