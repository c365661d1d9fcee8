"""Teams: threads that take samples side by side, each with a core of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Barrier, Semaphore, Thread
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Team:
    """Threads of the CPU that divide work among themselves, the caller's being one of them.

    torch has all cores share one product, and the next one, and wait for each other after each. In
    a server the event loop needs a core now and then: all wait for the one that lost its own; and
    as they are to sleep meanwhile (see `service.openmp`), waking them takes as long as a small
    product. Samples need nothing of each other: here each core takes whole ones, as many as it can.

    Args:
        size: how many threads there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._tasks: SimpleQueue[_Task[Any, Any] | None] = SimpleQueue()
        ready, threads = Barrier(size), torch.get_num_threads()
        # daemons: a forced stop must not hang on samples that are still computed
        self._threads = [
            Thread(target=self._help, args=(ready,), name=f"mcdrop-team-{number}", daemon=True)
            for number in range(1, size)
        ]
        for thread in self._threads:
            thread.start()
        ready.wait()
        torch.set_num_threads(threads)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """The results for all items, in their order; the first error of any is raised.

        Args:
            function: called by several threads at a time, with one-threaded kernels. What torch
                keeps for each thread, gradients among it, is not the caller's.
            items: what it is called with.
        """
        task = _Task(function, items)
        for _ in range(min(task.size, self.size) - 1):
            self._tasks.put(task)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            task.help()
            return task.results()
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        """Let the threads go when they have done what they were given; blocks."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _help(self, ready: Barrier) -> None:
        # asked first: a thread that has not computed yet is given the number that was set last
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait()
        while (task := self._tasks.get()) is not None:
            task.help()
            del task  # or its tensors would live on until the next one comes


class _Task(Generic[T, R]):
    """Items that threads take one after another."""

    def __init__(self, function: Callable[[T], R], items: Iterable[T]) -> None:
        self._function = function
        self._left = deque(enumerate(items))
        self.size = len(self._left)
        self._made: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}
        self._done = Semaphore(0)

    def help(self) -> None:
        """Take items until none is left."""
        while True:
            try:
                place, item = self._left.popleft()
            except IndexError:
                return
            try:
                if not self._errors:
                    self._made[place] = self._function(item)
            except BaseException as error:  # noqa: BLE001 - raised where all results come together
                self._errors[place] = error
            self._done.release()

    def results(self) -> list[R]:
        """Wait for the other threads' items."""
        for _ in range(self.size):
            self._done.acquire()
        for error in self._errors.values():
            raise error
        return [self._made[place] for place in range(self.size)]
