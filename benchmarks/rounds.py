"""Rounds: every side answers the same batch, one after the other, again and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.sides import Side
from benchmarks.workloads import Workload

DETERMINISTIC, LOOP, WARM, FRESH = (
    "deterministic",
    "naive: loop",
    "mcdrop: warm",
    "mcdrop: fresh seed",
)


@dataclass(slots=True)
class Timing:
    """What the rounds said of one side.

    Attributes:
        side: whose.
        seconds: time of each round.
        variances: mean over rows and outputs, of each round.
        offsets: root mean square distance of the mean from the naive loop's, of each round.
        error: why it does not run, if it does not.
    """

    side: Side
    seconds: list[float] = field(default_factory=list)
    variances: list[float] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float:
        """Median time in seconds."""
        return statistics.median(self.seconds)

    def time(self, x: Tensor, again: float) -> tuple[Tensor, Tensor, float] | None:
        """Mean, variance and time of an answer; `None` from a peer that fails, then and after.

        Args:
            x: the batch.
            again: seconds for which to ask again; the time is that of an answer on average.
        """
        if self.error:
            return None
        start, calls = time.perf_counter(), 0
        try:
            while not calls or time.perf_counter() - start < again:
                mean, variance = self.side.run(x)
                calls += 1
                if x.is_cuda:
                    torch.cuda.synchronize()
        except Exception as error:
            if self.side.name not in peers.PACKAGES:
                raise
            self.error = f"fails: {type(error).__name__}: {error}"  # a result, not our failure
            return None
        return mean, variance, (time.perf_counter() - start) / calls


def run(
    sides: Iterable[Side], work: Workload, rounds: int, again: float = 0.0
) -> dict[str, Timing]:
    """Time every side, by its label. The first round warms up; the order turns with each round.

    Args:
        sides: with the naive loop among them, which the means are compared with.
        work: whose batches they answer.
        rounds: how often each is timed.
        again: seconds for which a side answers in its turn, call after call; else it answers once.
    """
    timings = {side.label: Timing(side) for side in sides}
    labels = list(timings)
    with torch.no_grad():
        for number in range(-1, rounds):
            turn = number % len(labels)
            order = [*labels[turn:], *labels[:turn]]
            _round(
                {label: timings[label] for label in order}, work.batch(number + 1), again, number
            )
    return timings


def _round(timings: dict[str, Timing], x: Tensor, again: float, number: int) -> None:
    answers = {label: timing.time(x, again) for label, timing in timings.items()}
    truth = answers[LOOP]
    assert truth is not None
    for label, answer in answers.items():
        if answer is not None and number >= 0:
            mean, variance, seconds = answer
            timings[label].seconds.append(seconds)
            timings[label].variances.append(float(variance.mean()))
            timings[label].offsets.append(float((mean - truth[0]).square().mean().sqrt()))
