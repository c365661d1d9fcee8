"""Who computes what, and when: a bounded queue, and a worker for each device behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from mcdrop.engine import Team
from service.batching.ask import Ask, Timed
from service.batching.lane import StepObserver
from service.batching.worker import Worker
from service.loaded import Loaded

T = TypeVar("T")


class Scheduler:
    """Continuous batching of (row, sample) work.

    Rows enter after a pass through the trunk that they share with others, take the blocks of
    samples that they still need together with whoever needs the same, and leave when their samples
    are done or their tolerance is met. What an ask gets does not depend on its company.

    Args:
        devices: one worker for each; a model must have been loaded for all of them.
        capacity: asks that may wait for each model, at each worker.
        step_rows: most rows in a step.
        threads: CPU threads of a worker; torch's own choice by default.
        observer: told of steps.
    """

    def __init__(
        self,
        devices: Sequence[torch.device],
        *,
        capacity: int,
        step_rows: int = 64,
        threads: int | None = None,
        observer: StepObserver | None = None,
    ) -> None:
        if threads is None and len(devices) > 1 and devices[0].type == "cpu":
            threads = max(1, torch.get_num_threads() // len(devices))
        self.devices = tuple(devices)
        self._workers = [
            Worker(
                device,
                index,
                capacity=capacity,
                step_rows=step_rows,
                threads=threads,
                observer=observer,
            )
            for index, device in enumerate(self.devices)
        ]

    @property
    def teams(self) -> list[Team | None]:
        """The threads of each worker that take samples side by side; `None` on a GPU."""
        return [worker.team for worker in self._workers]

    @property
    def accepting(self) -> bool:
        """Whether asks are taken: not closing, and every worker's thread is alive."""
        return all(worker.accepting for worker in self._workers)

    async def ask(self, ask: Ask[T]) -> Timed[T]:
        """Queue an ask and wait for its answer; cancelling the wait frees its rows.

        Raises:
            QueueFullError: as many as allowed are waiting for this model.
            NotReadyError: the scheduler is closing.
            DeadlineError: the deadline passed before every row had a sample.
            InputError: the library refused the input.
        """
        self._submit(ask)
        return await ask.future

    def require_room(self, loaded: Loaded) -> None:
        """Refuse at the door what would be refused in the queue, before its body is looked at.

        Raises:
            QueueFullError: as many as allowed are waiting for this model, at every worker.
        """
        refusals = [worker.refusal(loaded) for worker in self._workers]
        if all(refusals) and refusals[0] is not None:
            raise refusals[0]

    def _submit(self, ask: Ask[Any]) -> None:
        if len(self._workers) == 1:
            self._workers[0].submit(ask)
        else:
            min(self._workers, key=Worker.load).submit(ask)

    async def run(self, work: Callable[[], T], *, worker: int = 0) -> Timed[T]:
        """Run a job on a device's thread, between steps; cancelling the wait withdraws it.

        Args:
            work: called without arguments, off the event loop.
            worker: whose thread; they are numbered as the devices are.

        Raises:
            NotReadyError: the scheduler is closing.
        """
        return await asyncio.wrap_future(self._workers[worker].run(work))

    async def close(self) -> None:
        """Take no more, finish what was taken, stop the threads."""
        await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in self._workers))
