"""The search for the fastest way: which engines are tried, with how many samples at a time."""

from __future__ import annotations

import math
from functools import reduce

from mcdrop.engine.plan import Trial, Way
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.engine.trials import Trials

# Where to begin looking: beyond the last-level cache, larger chunks cost memory bandwidth.
CPU_WORKING_SET = 32 << 20
_CLEARLY = 0.9  # a way that is not faster by a tenth does not replace one tried before
_CALLS = 5e-5  # seconds: of a sample's operations, however small they are


def batched_ways(trials: Trials, guess: int, limit: int, *, alone: bool) -> list[Trial]:
    """The fastest chunk of the batched engine, sought around a guess."""
    if limit == 1 and alone:  # nothing to choose
        return [Trial(Way("batched", 1), fresh=False, seconds=None)]
    best = trials.run(Way("batched", guess))
    for factor in (4.0, 0.25, 2.0, 0.5):
        way = Way("batched", int(best.way.samples * factor))
        if 1 <= way.samples <= limit and not trials.late and not trials.tried(way):
            best = better(best, trials.run(way))
    return [best]


def thinned_ways(
    trials: Trials, engine: ThinnedEngine, limit: int, batched: list[Trial], budget: int
) -> tuple[list[Trial], list[Trial]]:
    """The fastest chunk of the thinned engine: with weights kept, and gathered anew.

    The latter is not tried where the batched engine is no slower than the former.
    """
    kept: list[Trial] = []
    # as many bytes again may be kept, see ThinnedEngine
    while limit > 1 and 2 * engine.gather_bytes(limit) > budget:
        limit //= 2
    if 2 * engine.gather_bytes(limit) > budget and batched:
        return kept, kept
    for samples in sorted({min(16, limit), min(32, limit), limit}):
        small = engine.gather_bytes(samples) <= CPU_WORKING_SET
        if not kept or ((samples <= 32 or small) and not trials.late):
            kept.append(trials.run(Way("thinned", samples), keeps=True))
    best = fastest(kept)
    if batched and better(batched[0], best) is batched[0]:
        return [best], []
    return [best], [trials.run(best.way, fresh=True)]


def packed_ways(trials: Trials, limit: int, others: list[Trial]) -> list[Trial]:
    """The packed engine, with weights kept, and as many samples at a time as there may be.

    The number matters little to it, but much to what folds its samples. It is not tried where the
    others take no longer than its calls, sample by sample, would.
    """
    if others and (seconds := fastest(others).seconds) is not None and seconds < _CALLS:
        return []
    return [trials.run(Way("packed", limit), keeps=True)]


def fastest(trials: list[Trial]) -> Trial:
    """The fastest one; of about equal ones the first."""
    return reduce(better, trials)


def better(first: Trial, second: Trial) -> Trial:
    """The faster one; the first unless the difference is more than noise."""
    costs = [math.inf if t.seconds is None else t.seconds for t in (first, second)]
    return second if costs[1] < _CLEARLY * costs[0] else first
