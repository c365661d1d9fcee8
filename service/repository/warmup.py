"""The first predictions of a version, made before a caller waits for them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from functools import partial

from mcdrop.engine.memory import is_out_of_memory
from mcdrop.errors import InputError
from service.errors import UnloadableError
from service.loaded import Loaded
from service.scheduler import Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

_MOST_SAMPLES = 128  # the planner makes no larger chunks: more would show it nothing


async def warm(loaded: Loaded, scheduler: Scheduler, settings: Settings) -> None:
    """Plan for rows of zeros in a few numbers, up to what a step may have, and predict them.

    Steps of other numbers of rows go by the plan for the nearest one: nothing is tried while
    callers wait. Each number is a job of its own, so that requests for other models go in between.
    Zeros may be no sensible input: a model that refuses them is served without further warm-up.

    Raises:
        UnloadableError: not even one row can be computed on this device.
        NotReadyError: the server is stopping.
    """
    most = min(settings.warmup_rows, settings.step_rows)
    jobs = itertools.product(range(len(scheduler.devices)), _row_counts(most))
    samples = min(loaded.manifest.defaults.samples, _MOST_SAMPLES)
    for worker, rows in jobs:
        try:
            warming = partial(loaded.residencies[worker].warm, rows, samples)
            await scheduler.run(warming, worker=worker)
        except (IndexError, InputError, RuntimeError, MemoryError) as error:
            label = f"{loaded.name}/{loaded.version}"
            if rows == 1 and is_out_of_memory(error):
                raise UnloadableError("the device has no memory left for it") from error
            if isinstance(error, NotImplementedError):
                said = str(error).partition("\n")[0]
                raise UnloadableError(f"the device cannot compute it: {said}") from error
            log.warning("model %s is not warm for %d rows: %s", label, rows, error)
            return


def _row_counts(most: int) -> Iterator[int]:
    """Four times as many each time, and the most."""
    rows = 1
    while rows < most:
        yield rows
        rows *= 4
    if most > 0:
        yield most
