"""Workers: the thread that owns a device, and takes its lanes' steps in turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Condition, Thread
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from mcdrop.engine import Team
from service.batching.ask import Ask, Timed
from service.batching.lane import Lane, StepObserver
from service.errors import NotReadyError, QueueFullError
from service.loaded import Loaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future[Timed[Any]]
    submitted: float


class Worker:
    """Serves asks of any number of models on one device, and runs jobs in between.

    The lane that has had least of the device's time is served next, so that models do not starve
    one another; so are asks within a lane.

    Args:
        device: that it owns.
        index: of it among the workers.
        capacity: asks that may wait for each model.
        step_rows: most rows in a step.
        threads: of the CPU; torch's own choice by default.
        observer: told of steps.

    Attributes:
        team: that takes samples side by side; `None` on a GPU, or with one thread.
    """

    def __init__(
        self,
        device: torch.device,
        index: int,
        *,
        capacity: int,
        step_rows: int,
        threads: int | None = None,
        observer: StepObserver | None = None,
    ) -> None:
        self.device = device
        self._index = index
        self._capacity = capacity
        self._step_rows = step_rows
        self._threads = threads
        self._observer = observer
        size = threads or torch.get_num_threads()
        self.team = Team(size) if device.type == "cpu" and size > 1 else None
        # lanes know nothing of `Loaded`, so that a model goes when nobody holds it any more
        self._lanes: WeakKeyDictionary[Loaded, Lane] = WeakKeyDictionary()
        self._active: list[Lane] = []
        self._jobs: deque[_Job] = deque()
        self._changed = Condition()
        self._closing = False
        # daemon: a forced stop must not hang on a step that is still running
        self._thread = Thread(target=self._work, name=f"mcdrop-{device}-{index}", daemon=True)
        self._thread.start()

    @property
    def accepting(self) -> bool:
        """Whether asks are taken: not closing, and the thread is alive."""
        return self._thread.is_alive() and not self._closing

    def load(self) -> float:
        """Row-samples that are asked for and not yet taken."""
        with self._changed:
            return sum(lane.load for lane in self._active)

    def submit(self, ask: Ask[Any]) -> None:
        """Queue an ask; its future is withdrawn by cancelling it.

        Raises:
            QueueFullError: as many as allowed are waiting for this model.
            NotReadyError: the worker is closing.
        """
        with self._changed:
            self._require_accepting()
            lane = self._lane(ask.loaded)
            if (refusal := self._refusal(ask.loaded, lane)) is not None:
                raise refusal
            lane.queue(ask)
            if lane not in self._active:
                self._active.append(lane)
            self._changed.notify()
        ask.future.add_done_callback(partial(self._withdraw, ask))

    def refusal(self, loaded: Loaded) -> QueueFullError | None:
        """The error of an ask that came now; `None` if there is room."""
        with self._changed:
            lane = self._lanes.get(loaded)
            return None if lane is None else self._refusal(loaded, lane)

    def _refusal(self, loaded: Loaded, lane: Lane) -> QueueFullError | None:
        if len(lane.waiting) < self._capacity:
            return None
        return QueueFullError(
            f"{self._capacity} requests are waiting for model {loaded.name!r} already; "
            "try again in a moment",
            seconds=lane.patience(),
        )

    def run(self, work: Callable[[], T]) -> Future[Timed[T]]:
        """Queue a job: it runs between steps, and nothing else does meanwhile.

        Raises:
            NotReadyError: the worker is closing.
        """
        job = _Job(work, Future(), time.monotonic())
        with self._changed:
            self._require_accepting()
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Take no more, finish what was taken, stop the thread; blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self.team is not None:
            self.team.close()

    def _require_accepting(self) -> None:
        if not self.accepting:
            raise NotReadyError("the server is stopping and takes no more work")

    def _lane(self, loaded: Loaded) -> Lane:
        lane = self._lanes.get(loaded)
        if lane is None:
            lane = self._lanes[loaded] = Lane(
                loaded.name,
                loaded.version,
                loaded.residencies[self._index],
                step_rows=self._step_rows,
                observer=self._observer,
            )
        if not lane.busy:  # back from idleness: no claim on time that it did not use
            tags = [other.tag for other in self._active if other.busy]
            lane.tag = max(lane.tag, min(tags, default=lane.tag))
        return lane

    def _withdraw(self, ask: Ask[Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            with self._changed:
                self._lane(ask.loaded).withdraw(ask)

    def _work(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._active or self._jobs or self._closing)
                if not (self._active or self._jobs) and self._closing:
                    return
                job = self._jobs.popleft() if self._jobs else None
            if job is not None:
                _settle(job)
            del job  # or its tensors would live on until the next one comes
            self._serve()

    def _serve(self) -> None:
        """One step of the lane whose turn it is."""
        with self._changed:
            coming = [(lane, lane.welcome()) for lane in self._active]
        for lane, asks in coming:
            lane.dismiss()
            lane.enter(asks)
        ready = [lane for lane in self._active if lane.visits]
        if ready:
            lane = min(ready, key=lambda lane: lane.tag)
            lane.tag += lane.advance()
        with self._changed:
            self._active = [lane for lane in self._active if lane.busy]
        if self._observer is not None:
            self._observer.resident(str(self.device), sum(lane.rows for lane in self._active))


def _settle(job: _Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    started = time.monotonic()
    try:
        value = job.work()
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its caller's to handle
        job.future.set_exception(error)
    else:
        done = time.monotonic()
        job.future.set_result(Timed(value, started - job.submitted, done - started))
