"""What is compared: one deterministic pass, the naive ways, and mcdrop.

Every Monte Carlo side answers with the mean and the variance over its samples, each `[B, ...]`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import mcdrop
from benchmarks.workloads import Workload

Moments = tuple[Tensor, Tensor]
NORMALISATION = (nn.modules.batchnorm._NormBase,)  # noqa: SLF001 - BatchNorm and InstanceNorm


@dataclass(frozen=True, slots=True)
class Side:
    """One way to get an answer.

    Attributes:
        name: whose way it is: `"deterministic"`, `"naive"`, `"mcdrop"`, or a peer's name.
        variant: which of its ways.
        run: from a batch to mean and variance.
    """

    name: str
    variant: str
    run: Callable[[Tensor], Moments]

    @property
    def label(self) -> str:
        """Name and variant, unique among the sides of a run."""
        return f"{self.name}: {self.variant}" if self.variant else self.name


def deterministic(work: Workload) -> Side:
    """One pass with dropout off: what a prediction without uncertainty costs."""

    def run(x: Tensor) -> Moments:
        out = work.module(x)
        return out, torch.zeros_like(out)

    return Side("deterministic", "", run)


def naive(work: Workload) -> list[Side]:
    """The textbook: train mode but for normalisation, in a loop or with the rows repeated."""
    module = copy.deepcopy(work.module)

    def loop(x: Tensor) -> Moments:
        with stochastic(module):
            return moments(torch.stack([module(x) for _ in range(work.samples)]))

    def repeated(x: Tensor) -> Moments:
        with stochastic(module):
            out = module(x.repeat(work.samples, *[1] * (x.ndim - 1)))
            return moments(out.unflatten(0, (work.samples, -1)))

    return [Side("naive", "loop", loop), Side("naive", "rows repeated", repeated)]


def montecarlo(work: Workload, **options: Any) -> mcdrop.MCDropout:
    """The one place where a workload is given to mcdrop: its defaults, and what is asked for."""
    device = work.x.device.type
    return mcdrop.MCDropout(work.module, work.x, task="regression", device=device, **options)


def ours(work: Workload) -> tuple[list[Side], mcdrop.MCDropout]:
    """Ours: with one seed again and again (its masks are kept), and with a new seed each time.

    Each has an `MCDropout` of its own, as the new seeds would push out the masks that are kept; the
    first of them comes back too, already used.
    """
    mc, other = montecarlo(work), montecarlo(work)
    seeds = itertools.count(1)

    def warm(x: Tensor) -> Moments:
        prediction = mc.predict(x, samples=work.samples)
        return prediction.mean, prediction.variance

    def fresh(x: Tensor) -> Moments:
        prediction = other.predict(x, samples=work.samples, seed=next(seeds))
        return prediction.mean, prediction.variance

    for _ in range(3):  # the plan is made in the first, what is kept for a seed in the second
        warm(work.x)
    return [Side("mcdrop", "warm", warm), Side("mcdrop", "fresh seed", fresh)], mc


@contextmanager
def stochastic(module: nn.Module) -> Iterator[None]:
    """Train mode within, normalisation layers in evaluation mode; evaluation mode after."""
    module.train()
    for part in module.modules():
        if isinstance(part, NORMALISATION):
            part.eval()
    try:
        yield
    finally:
        module.eval()


def moments(samples: Tensor) -> Moments:
    """Mean and variance over the first axis."""
    return samples.mean(0), samples.var(0)
