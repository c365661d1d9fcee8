"""Work that waits for a disk, on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """Run `work` beside the event loop and the device's thread, and wait for it.

    The thread is a daemon, not one of asyncio's pool: a network file system that hangs must not
    keep the server from stopping. It must not call `torch.set_num_threads` either: torch gives the
    number that was set last to every thread that has not computed yet, the device's among them.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller's to handle
            future.set_exception(error)
        else:
            future.set_result(value)

    Thread(target=run, name="mcdrop-disk", daemon=True).start()
    return await asyncio.wrap_future(future)
