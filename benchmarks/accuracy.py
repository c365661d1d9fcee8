"""Time to accuracy: seconds until the predictive mean is right, on trained nets.

Right is: within 1% (relative L2, over a batch of held-out rows) of the mean of 20,000 iid samples.
The number of samples that takes is found for many seeds; a prediction with their median is timed.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator

from torch import Tensor

import mcdrop
from benchmarks import models, peers, rounds, sides
from benchmarks.models import Trained
from benchmarks.record import Record
from benchmarks.sides import Moments, Side
from benchmarks.workloads import Workload

BOUND = 0.01
REFERENCE, REFERENCE_SEED = 20_000, 1_000_000
STEP = 16  # samples between two answers of `stream`
_MOST = 20_000  # samples of a run that never gets there


def crossing(errors: Iterable[float], bound: float, step: int = STEP) -> int | None:
    """The first count of samples with an error within the bound, and so up to twice that count.

    Args:
        errors: after `step` samples, after twice that, and so on; no more are read than needed.
        bound: of the error.
        step: samples between two errors.

    Returns:
        The count; `None` if the errors end before one is found.

    Example:
        >>> crossing([0.020, 0.009, 0.011, 0.008, 0.007, 0.006, 0.006, 0.005], bound=0.01)
        64
    """
    first = None
    for count, error in zip(itertools.count(step, step), errors, strict=False):
        if error > bound:
            first = None
        elif first is None:
            first = count
        if first is not None and count >= 2 * first:
            return first
    return None


def median(found: Iterable[int | None]) -> int | None:
    """Median of counts, rounded up to one that `stream` answers at; `None` if half never got there.

    Example:
        >>> median([16, 64, 32]), median([16, None, None])
        (32, None)
    """
    middle = statistics.median(math.inf if count is None else count for count in found)
    return None if math.isinf(middle) else math.ceil(middle / STEP) * STEP


def measure(trained: Trained, seeds: int = 21, repeats: int = 15) -> Record:
    """Samples and seconds to accuracy on each side.

    Args:
        trained: a net and its held-out rows.
        seeds: how many runs the number of samples is the median of.
        repeats: how often each prediction is timed.
    """
    iid = models.montecarlo(trained, sampling="iid", engine="batched")
    default = models.montecarlo(trained)
    reference = iid.predict(trained.x, samples=REFERENCE, seed=REFERENCE_SEED)
    size = float(reference.mean.norm())
    own_error = float(reference.standard_error.norm()) / size
    expected = REFERENCE * (own_error / BOUND) ** 2  # samples at which iid reaches the bound
    others = models.montecarlo(trained, sampling="iid", masks="independent", engine="batched")
    found = {
        side: [
            crossing(_errors(mc, trained.x, seed, reference.mean), BOUND) for seed in range(seeds)
        ]
        for side, mc in (("iid", iid), ("default", default), ("other", others))
    }
    needed = {side: median(values) for side, values in found.items()}
    return {
        "model": trained.name,
        "title": trained.title,
        "data": trained.source,
        "task": trained.task,
        "rows": len(trained.x),
        "bound": BOUND,
        "reference_samples": REFERENCE,
        "reference_error": own_error,
        "expected_iid_samples": expected,
        "seeds": seeds,
        "iid_samples": needed["iid"],
        "default_samples": needed["default"],
        "iid_all": found["iid"],
        "other_samples": needed["other"],
        "default_all": found["default"],
        "other_all": found["other"],
        **_times(trained, iid, default, needed, repeats),
        "engine": str(default.plan.engine),
    }


def _errors(mc: mcdrop.MCDropout, x: Tensor, seed: int, truth: Tensor) -> Iterator[float]:
    """Relative error of the mean after each block of samples."""
    size = float(truth.norm())
    for partial in mc.stream(x, samples=_MOST, seed=seed):
        yield float((partial.mean - truth).norm()) / size


def _times(
    trained: Trained,
    iid: mcdrop.MCDropout,
    default: mcdrop.MCDropout,
    needed: dict[str, int | None],
    repeats: int,
) -> Record:
    """Median seconds of each side's prediction; other sides draw iid samples, a mask for each row.

    Nothing is timed where no number of samples was found.
    """
    named = ("iid_s", "iid_fresh_s", "default_s", "default_fresh_s", "other_s", "other")
    if any(samples is None for samples in needed.values()):
        return dict.fromkeys(named)
    iid_samples, samples, other_samples = (needed[n] or 0 for n in ("iid", "default", "other"))
    work = Workload(trained.name, trained.title, trained.module, trained.x, other_samples)
    fresh = models.montecarlo(trained)  # of its own: new seeds would push out what others keep
    fresh_iid = models.montecarlo(trained, sampling="iid", engine="batched")
    seeds = itertools.count(1)
    ours = [
        _predicting("iid", iid, trained.x, iid_samples),
        _predicting("iid, new seed", fresh_iid, trained.x, iid_samples, seeds),
        _predicting("default", default, trained.x, samples),
        _predicting("default, new seed", fresh, trained.x, samples, seeds),
    ]
    timings = rounds.run([*ours, *sides.naive(work), *peers.build(work)], work, repeats)
    seconds = {label: timing.median for label, timing in timings.items() if not timing.error}
    times = [seconds.pop(side.label) for side in ours]
    other = min(seconds, key=seconds.__getitem__)
    return dict(zip(named, (*times, seconds[other], other), strict=True))


def _predicting(
    variant: str,
    mc: mcdrop.MCDropout,
    x: Tensor,
    samples: int,
    seeds: Iterator[int] | None = None,
) -> Side:
    def run(x: Tensor) -> Moments:
        seed = None if seeds is None else next(seeds)
        prediction = mc.predict(x, samples=samples, seed=seed)
        return prediction.mean, prediction.variance

    for _ in range(3):  # the plan is made in the first, what is kept for a seed in the second
        run(x)
    return Side("mcdrop", variant, run)
