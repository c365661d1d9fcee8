"""One technique on one fold: trained, then asked about the rows held out and those from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.compare.answers import Answers, deterministic
from mcdrop.compare.data import Fold
from mcdrop.compare.techniques import Technique
from mcdrop.compare.training import train
from mcdrop.predictor import MCDropout
from mcdrop.tasks import AnyTask, Gaussian

_SAMPLES = 64
_REPEATS = 3


@dataclass(frozen=True, slots=True)
class Said:
    """Answers for the rows held out, and for those from outside."""

    held: Answers
    outside: Answers


@dataclass(frozen=True, slots=True)
class Trial:
    """A technique on a fold.

    Attributes:
        said: the mean over Monte Carlo samples; of a net alone, its one pass.
        off: the deterministic pass of the same net.
        best_epoch: whose weights the net has, from 1.
        unfinished: whether the epochs ran out before the patience did.
        epoch_seconds: of CPU time that an epoch takes, the median.
        predict_seconds: of CPU time for the rows held out, the least of three when nothing is done
            for the first time any more; `None` where no times were to be taken.
    """

    said: Said
    off: Said
    best_epoch: int
    unfinished: bool
    epoch_seconds: float
    predict_seconds: float | None


def run(
    technique: Technique, fold: Fold, task: AnyTask, *, epochs: int, seed: int, timed: bool = True
) -> Trial:
    """Train a technique's net on a fold, and ask it.

    The net is made and trained from a seed, on one thread: torch's CPU generator and its number of
    threads are put back afterwards.

    Args:
        technique: in its net.
        fold: the rows.
        task: classes, or a mean and a log-variance.
        epochs: of the training, at most; the same for all.
        seed: of weights, batches and masks.
        timed: whether to ask again, for the time that it takes.
    """
    with _one_thread():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            training = train(technique, fold, task, epochs)

        def passed(x: Tensor) -> Answers:
            return deterministic(training.net, x, task)

        ask = passed if technique.plain else _sampled(training.net, fold, task, timed=timed)
        off = Said(passed(fold.test[0]), passed(fold.outside))
        said = off if technique.plain else Said(ask(fold.test[0]), ask(fold.outside))
        return Trial(
            said,
            off,
            training.best_epoch,
            training.unfinished,
            training.epoch_seconds,
            _least_seconds(ask, fold.test[0]) if timed else None,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _sampled(
    net: nn.Module, fold: Fold, task: AnyTask, *, timed: bool
) -> Callable[[Tensor], Answers]:
    # All engines say the same; the planner's choice, which is what users get, takes measuring.
    engine: Literal["auto", "batched"] = "auto" if timed else "batched"
    mc = MCDropout(net, fold.test[0][:2], task=task, engine=engine)

    def ask(x: Tensor) -> Answers:
        said = mc.predict(x, samples=_SAMPLES)
        return Answers(said.mean, said.variance if isinstance(task, Gaussian) else None)

    return ask


def _least_seconds(ask: Callable[[Tensor], Answers], x: Tensor) -> float:
    ask(x)  # the second time a seed comes, its masks are kept
    took = []
    for _ in range(_REPEATS):
        began = time.process_time()
        ask(x)
        took.append(time.process_time() - began)
    return min(took)
