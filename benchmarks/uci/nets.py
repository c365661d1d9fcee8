"""Many nets trained and scored: in stacks that fit a core's cache, one process for each core."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.uci.score import Scores, score
from benchmarks.uci.stack import Stack
from benchmarks.uci.stage import Part, held_out
from benchmarks.uci.train import Progress, Recipe, gaussian, squared_error, train

# A step of so many nets keeps its values in the cache of a core; for fewer, what a step costs
# however small it is begins to matter.
_TOGETHER = 40


@dataclass(frozen=True, slots=True)
class Net:
    """A net to be trained.

    Attributes:
        split: whose rows.
        rate: of its dropout.
        decay: factor of its squared weights in the loss.
        epochs: after how many it is scored; it is trained for the last of them.
        noise: see `score`; for nets with two outputs a factor.
        outputs: 1 for squared error, 2 for mean and log-variance.
        hidden: units.
    """

    split: int
    rate: float
    decay: float
    epochs: tuple[int, ...]
    noise: float
    outputs: int
    hidden: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a net was worth after some epochs, in the targets' own units."""

    net: Net
    epochs: int
    rmse: float
    log_likelihood: float


@contextmanager
def workers() -> Iterator[Executor]:
    """A process for each core."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        os.cpu_count(), context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield pool


def trained(
    nets: Sequence[Net],
    parts: Sequence[Part],
    pool: Executor,
    *,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Result]:
    """Train every net on its split, and score it on the rows held out of that.

    The answers depend on the seed, and not on how many workers there are.

    Args:
        nets: in any order.
        parts: rows of each split.
        pool: see `workers`.
        samples: of a prediction.
        seed: of weights, order of rows and masks; each stack has one of its own.
        progress: told (done, total) nets.
    """
    stacks = list(_stacks(nets, parts))
    jobs = [
        (stack, [parts[net.split] for net in stack], samples, seed + number)
        for number, stack in enumerate(stacks)
    ]
    results: list[Result] = []
    done = 0
    for stack, found in zip(stacks, pool.map(_job, jobs), strict=True):
        results += found
        done += len(stack)
        if progress is not None:
            progress(done, len(nets))
    return results


def _stacks(nets: Sequence[Net], parts: Sequence[Part]) -> Iterator[list[Net]]:
    """Nets that can be trained together: as many rows of each kind, outputs, units and epochs."""

    def kind(net: Net) -> tuple[int, ...]:
        part = parts[net.split]
        return (len(part.x), len(part.held_x), net.outputs, net.hidden, net.epochs[-1])

    for _, alike in itertools.groupby(sorted(nets, key=kind), kind):
        rising = sorted(alike, key=lambda net: net.rate)
        size = min(_TOGETHER, -(-len(rising) // 2))
        yield from (rising[first : first + size] for first in range(0, len(rising), size))


def _job(job: tuple[list[Net], list[Part], int, int]) -> list[Result]:
    nets, parts, samples, seed = job
    stack = Stack(
        [n.rate for n in nets], parts[0].x.shape[1], nets[0].hidden, nets[0].outputs, seed
    )
    splits = {net.split: part for net, part in zip(nets, parts, strict=True)}
    names = list(splits)
    rows = held_out(parts)
    results: list[Result] = []
    recipe = Recipe(
        slope=squared_error if nets[0].outputs == 1 else gaussian,
        decay=torch.tensor([net.decay for net in nets]),
        epochs=nets[0].epochs[-1],
        seed=seed,
    )

    def after_epoch(epochs: int) -> None:
        wanted = [m for m, net in enumerate(nets) if epochs in net.epochs]
        if wanted:
            noise = torch.tensor([net.noise for net in nets])
            found = score(stack, rows, noise, samples, seed)
            results.extend(_result(nets[m], epochs, found, m) for m in wanted)

    train(
        stack,
        torch.stack([splits[name].x for name in names]),
        torch.stack([splits[name].y for name in names]),
        [names.index(net.split) for net in nets],
        recipe,
        after_epoch=after_epoch,
    )
    return results


def _result(net: Net, epochs: int, scores: Scores, place: int) -> Result:
    return Result(net, epochs, float(scores.rmse[place]), float(scores.log_likelihood[place]))
