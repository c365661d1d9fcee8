"""The first predictions of a version, made before a caller waits for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import torch

from mcdrop.engine.memory import is_out_of_memory
from mcdrop.errors import InputError
from mcdrop.program.schema import dtype_of
from service.errors import UnloadableError
from service.registry import Loaded
from service.scheduler import Scheduler
from service.settings import Settings

log = logging.getLogger(__name__)

_MOST_SAMPLES = 128  # the planner makes no larger chunks: more would show it nothing


async def warm(loaded: Loaded, scheduler: Scheduler, settings: Settings) -> None:
    """Predict rows of zeros in the numbers for which the planner plans apart: 1, 2, 4, ...

    Each number is a job of its own, so that requests for other models go in between. Zeros may be
    no sensible input: a model that refuses them is served without further warm-up.

    Raises:
        UnloadableError: not even one row can be computed on this device.
        NotReadyError: the server is stopping.
    """
    for rows in _row_counts(min(settings.warmup_rows, settings.max_rows)):
        try:
            await scheduler.run(partial(_predict, loaded, rows), bounded=False)
        except (IndexError, InputError, RuntimeError, MemoryError) as error:
            label = f"{loaded.name}/{loaded.version}"
            if rows == 1 and is_out_of_memory(error):
                raise UnloadableError(f"{scheduler.device} has no memory left for it") from error
            if isinstance(error, NotImplementedError):
                said = str(error).partition("\n")[0]
                raise UnloadableError(f"{scheduler.device} cannot compute it: {said}") from error
            log.warning("model %s is not warm beyond %d rows: %s", label, rows // 2, error)
            return


def _row_counts(most: int) -> Iterator[int]:
    rows = 1
    while rows <= most:
        yield rows
        rows *= 2


def _predict(loaded: Loaded, rows: int) -> None:
    predictor, defaults = loaded.predictor, loaded.manifest.defaults
    inputs = {
        spec.name: torch.zeros(
            (rows, *spec.smallest()), dtype=dtype_of(spec.dtype), device=predictor.device
        )
        for spec in loaded.manifest.inputs
    }
    x = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    predictor.predict(x, samples=min(defaults.samples, _MOST_SAMPLES), seed=defaults.seed)
