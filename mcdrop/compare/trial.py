"""One technique on one fold: trained, then asked about the rows held out and those from outside."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.compare.data import Fold
from mcdrop.compare.techniques import Setting, Technique
from mcdrop.layers import regularization
from mcdrop.metrics.functional.densities import log_densities
from mcdrop.metrics.functional.scores import log_likelihoods
from mcdrop.predictor import MCDropout
from mcdrop.tasks import AnyTask, Classification, Gaussian

_BATCH = 64
_LEARNING_RATE = 2e-3
_SAMPLES = 64
_IMPOSSIBLE = math.log(torch.finfo(torch.float32).tiny)  # what a probability of 0 is taken for


@dataclass(frozen=True, slots=True)
class Answers:
    """What a net said of some rows.

    Attributes:
        mean: probabilities `[B, C]`, or means `[B, 1]`.
        variance: of numbers, all of it, `[B, 1]`; `None` for classes.
    """

    mean: Tensor
    variance: Tensor | None

    @property
    def uncertainty(self) -> Tensor:
        """Entropy of the probabilities, or the deviation, `[B]`."""
        if self.variance is None:
            entropy: Tensor = torch.special.entr(self.mean).sum(1)
            return entropy
        return self.variance.sqrt()[:, 0]

    def losses(self, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each row, float64 `[B]`, in nats.

        Of numbers, under the normal distribution with the answer's mean and variance.
        """
        if self.variance is None:
            return -log_likelihoods(probs=self.mean, labels=targets).clamp_min(_IMPOSSIBLE)
        mean, std, wanted = (t.double() for t in (self.mean, self.variance.sqrt(), targets))
        return -log_densities(mean, std, wanted)[:, 0]


@dataclass(frozen=True, slots=True)
class Trial:
    """A technique on a fold.

    Attributes:
        held: answers for the rows held out.
        outside: answers for those from outside.
        train_seconds: of the training.
        predict_seconds: of the answers for the rows held out, when nothing is done for the first
            time any more.
    """

    held: Answers
    outside: Answers
    train_seconds: float
    predict_seconds: float


def run(technique: Technique, fold: Fold, task: AnyTask, *, epochs: int, seed: int) -> Trial:
    """Train a technique's net on a fold, and ask it.

    The net is made and trained from a seed: torch's CPU generator is put back afterwards.

    Args:
        technique: in its net.
        fold: the rows.
        task: classes, or a mean and a log-variance.
        epochs: of the training, the same for all.
        seed: of weights, batches and masks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, seconds = _trained(technique, fold, task, epochs)
    answer = _deterministic if technique.plain else _sampled
    held, outside, took = answer(net, fold, task)
    return Trial(held, outside, seconds, took)


def _trained(
    technique: Technique, fold: Fold, task: AnyTask, epochs: int
) -> tuple[nn.Module, float]:
    x, y = fold.train
    classes = isinstance(task, Classification)
    setting = Setting(
        shape=(x.shape[1], x.shape[2]),
        outputs=10 if classes else 2,
        rows=len(x),
        loss="cross_entropy" if classes else "squared_error",
        steps=epochs * -(-len(x) // _BATCH),
    )
    net = technique.make(setting).train()
    schedule = None if technique.schedule is None else technique.schedule(net, setting)
    optimiser = torch.optim.Adam(net.parameters(), _LEARNING_RATE)
    began = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), _BATCH):
            loss = _loss(net(x[rows]), y[rows], task) + regularization(net)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            if schedule is not None:
                schedule.step()
    return net.eval(), time.perf_counter() - began


def _loss(out: Tensor, targets: Tensor, task: AnyTask) -> Tensor:
    if isinstance(task, Classification):
        return F.cross_entropy(out, targets)
    mean, log_variance = out.chunk(2, 1)
    return F.gaussian_nll_loss(mean, targets, log_variance.exp(), eps=1e-6)


@torch.no_grad()
def _deterministic(net: nn.Module, fold: Fold, task: AnyTask) -> tuple[Answers, Answers, float]:
    def ask(x: Tensor) -> Answers:
        out = net(x)
        if isinstance(task, Gaussian):
            mean, log_variance = out.chunk(2, 1)
            return Answers(mean, log_variance.exp())
        return Answers(out.softmax(1), None)

    held = ask(fold.test[0])
    began = time.perf_counter()
    ask(fold.test[0])
    took = time.perf_counter() - began
    return held, ask(fold.outside), took


def _sampled(net: nn.Module, fold: Fold, task: AnyTask) -> tuple[Answers, Answers, float]:
    mc = MCDropout(net, fold.test[0][:2], task=task)

    def ask(x: Tensor) -> Answers:
        said = mc.predict(x, samples=_SAMPLES)
        return Answers(said.mean, said.variance if isinstance(task, Gaussian) else None)

    held = ask(fold.test[0])
    ask(fold.test[0])  # the second time a seed comes, its masks are kept
    began = time.perf_counter()
    ask(fold.test[0])
    took = time.perf_counter() - began
    return held, ask(fold.outside), took
