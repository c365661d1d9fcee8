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

    def time(self, x: Tensor) -> tuple[Tensor, Tensor, float] | None:
        """Mean, variance and time of one answer; `None` from a peer that fails, then and after."""
        if self.error:
            return None
        start = time.perf_counter()
        try:
            mean, variance = self.side.run(x)
            if x.is_cuda:
                torch.cuda.synchronize()
        except Exception as error:
            if self.side.name not in peers.PACKAGES:
                raise
            self.error = f"fails: {type(error).__name__}: {error}"  # a result, not our failure
            return None
        return mean, variance, time.perf_counter() - start


def run(sides: Iterable[Side], work: Workload, rounds: int) -> dict[str, Timing]:
    """Time every side, by its label. The first round warms up; the order turns with each round.

    Args:
        sides: with the naive loop among them, which the means are compared with.
        work: whose batches they answer.
        rounds: how often each is timed.
    """
    timings = {side.label: Timing(side) for side in sides}
    labels = list(timings)
    with torch.no_grad():
        for number in range(-1, rounds):
            turn = number % len(labels)
            _round(timings, [*labels[turn:], *labels[:turn]], work.batch(number + 1), number >= 0)
    return timings


def _round(timings: dict[str, Timing], order: list[str], x: Tensor, timed: bool) -> None:
    answers = {label: timings[label].time(x) for label in order}
    truth = answers[LOOP]
    assert truth is not None
    for label, answer in answers.items():
        if answer is not None and timed:
            mean, variance, seconds = answer
            timings[label].seconds.append(seconds)
            timings[label].variances.append(float(variance.mean()))
            timings[label].offsets.append(float((mean - truth[0]).square().mean().sqrt()))
