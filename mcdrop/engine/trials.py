"""Trials: ways of computing samples, timed on the caller's own rows."""

from __future__ import annotations

import time

import torch

from mcdrop.engine.memory import free_caches, is_out_of_memory
from mcdrop.engine.plan import Trial, Way
from mcdrop.engine.sampler import ProgramSampler

# No new trial is begun after so long; the first of each engine always is.
_SECONDS = 0.3
# A trial that took longer is not repeated.
_SLOW = 0.05
# Others are repeated so often, and quick ones, which any noise is a large part of, for so long.
_REPEATS = 3
_AT_LEAST, _MOST_REPEATS = 0.005, 20
# What folding a chunk into the estimates takes beside computing it, however small it is: without
# it, two chunks of a small net would seem as good as one.
_FOLDING = 1e-4


class Trials:
    """Times ways of sampling, and keeps what it saw.

    Args:
        sampler: of the rows to try them on.
        device: where they compute.
        kept_samples: of how many samples something may be kept.
    """

    def __init__(self, sampler: ProgramSampler, device: torch.device, kept_samples: int) -> None:
        self.seen: list[Trial] = []
        self._sampler = sampler
        self._device = device
        self._kept_samples = kept_samples
        self._deadline = time.monotonic() + _SECONDS

    @property
    def late(self) -> bool:
        """Whether no further trial should begin."""
        return time.monotonic() > self._deadline

    def tried(self, way: Way) -> bool:
        """Whether a way was tried."""
        return any(trial.way == way for trial in self.seen)

    def run(self, way: Way, *, fresh: bool = False, keeps: bool = False) -> Trial:
        """Time a way: the least of a few runs, after one that is not counted unless it is slow.

        Args:
            way: the engine and the number of samples.
            fresh: take samples of which nothing is kept.
            keeps: whether the first run makes what later ones find, so that it never counts.
        """
        start = self._kept_samples if fresh else 0
        chunk = range(start, start + way.samples)
        try:
            taken = self._time(chunk, way.engine)
            if keeps or taken < _SLOW:
                taken = self._least(chunk, way.engine)
            trial = Trial(way, fresh, (taken + _FOLDING) / way.samples)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trial = Trial(way, fresh, None)
        if trial.seconds is None:
            free_caches(self._device)
        self.seen.append(trial)
        return trial

    def _least(self, chunk: range, engine: str) -> float:
        times = [self._time(chunk, engine)]
        while times[0] < _SLOW and (
            len(times) < _REPEATS or (sum(times) < _AT_LEAST and len(times) < _MOST_REPEATS)
        ):
            times.append(self._time(chunk, engine))
        return min(times)

    def _time(self, chunk: range, engine: str) -> float:
        self._wait()
        start = time.perf_counter()
        self._sampler.compute(chunk, engine)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self._device.type == "cuda":  # a trial is not in the hot path
            torch.cuda.synchronize(self._device)
