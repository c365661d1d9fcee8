"""Who computes, and when: one thread that owns the device, and a bounded queue before it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

import torch

from service.errors import NotReadyError, QueueFullError, StartError

log = logging.getLogger(__name__)
T = TypeVar("T")


def resolve_device(name: str) -> torch.device:
    """Turn a setting (`auto`, `cpu`, `cuda`, `cuda:N`) into a device that this machine has.

    Raises:
        StartError: there is no such GPU here.
    """
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda:0" if count else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise StartError(
            f"MCDROP_DEVICE is {name}, but torch sees {count} GPUs here; set it to auto or cpu"
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """A job's result, with its seconds in the queue and on the device."""

    value: T
    queued: float
    computed: float


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future[Timed[Any]]
    submitted: float


class Scheduler:
    """Runs jobs one after another on a thread that owns the device.

    A job whose caller has gone leaves the queue at once and frees its place in it.
    """

    def __init__(self, device: torch.device, *, capacity: int, threads: int | None = None) -> None:
        self.device = device
        self._capacity = capacity
        self._threads = threads
        self._waiting: deque[_Job] = deque()
        self._changed = Condition()
        self._closing = False
        # daemon: a forced stop must not hang on a prediction that is still running
        self._thread = Thread(target=self._work, name=f"mcdrop-{device}", daemon=True)
        self._thread.start()

    @property
    def accepting(self) -> bool:
        """Whether jobs are taken: not closing, and the thread is alive."""
        return self._thread.is_alive() and not self._closing

    async def run(self, work: Callable[[], T], *, bounded: bool = True) -> Timed[T]:
        """Run `work` on the device's thread and wait for it; cancelling the wait withdraws it.

        Args:
            work: called without arguments, off the event loop.
            bounded: whether it counts against the queue's size (loading a model does not).

        Raises:
            QueueFullError: as many jobs as allowed are waiting.
            NotReadyError: the scheduler is closing.
        """
        return await asyncio.wrap_future(self._submit(work, bounded=bounded))

    async def close(self) -> None:
        """Take no more jobs, finish those that were taken, stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _submit(self, work: Callable[[], T], *, bounded: bool) -> Future[Timed[T]]:
        job = _Job(work, Future(), time.monotonic())
        with self._changed:
            if not self.accepting:
                raise NotReadyError("the server is stopping and takes no more work")
            if bounded and len(self._waiting) >= self._capacity:
                raise QueueFullError(
                    f"{self._capacity} requests are waiting already; try again in a moment"
                )
            self._waiting.append(job)
            self._changed.notify()
        job.future.add_done_callback(self._withdraw)
        return job.future

    def _withdraw(self, future: Future[Timed[Any]]) -> None:
        if future.cancelled():
            with self._changed:
                self._waiting = deque(job for job in self._waiting if job.future is not future)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft() if self._waiting else None

    def _work(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while True:
            job = self._next()
            if job is None:
                return
            if job.future.set_running_or_notify_cancel():
                _settle(job)
            del job  # or its tensors would live on until the next one comes


def _settle(job: _Job) -> None:
    started = time.monotonic()
    try:
        value = job.work()
    except BaseException as error:  # noqa: BLE001 - whatever a job raises is its caller's to handle
        job.future.set_exception(error)
    else:
        done = time.monotonic()
        job.future.set_result(Timed(value, started - job.submitted, done - started))
