"""A training that stops by rows that it does not learn from."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.compare.answers import deterministic
from mcdrop.compare.data import Fold
from mcdrop.compare.techniques import Setting, Technique
from mcdrop.layers import regularization
from mcdrop.tasks import AnyTask, Classification

PATIENCE = 20  # epochs without a better score, after which a training ends
_BATCH = 64
_LEARNING_RATE = 2e-3
_GROWN = 10  # epochs in which a scheduled rate comes to its end


@dataclass(frozen=True, slots=True)
class Training:
    """A trained net.

    Attributes:
        net: with the weights of its best epoch, in evaluation mode.
        best_epoch: which one that was, from 1.
        unfinished: whether the epochs ran out before the patience did.
        epoch_seconds: of CPU time that an epoch takes, the median; without the look at the score.
    """

    net: nn.Module
    best_epoch: int
    unfinished: bool
    epoch_seconds: float


def train(technique: Technique, fold: Fold, task: AnyTask, epochs: int) -> Training:
    """Train a technique's net until the likelihood of the validation rows grows no more.

    After each epoch they are asked with the noise off; the best epoch's weights are restored. Where
    a schedule drives the rate, epochs count from when it has come to its end.

    Args:
        technique: in its net.
        fold: the rows.
        task: classes, or a mean and a log-variance.
        epochs: at most so many.
    """
    x, y = fold.train
    classes = isinstance(task, Classification)
    grown = min(_GROWN, epochs)
    setting = Setting(
        shape=(x.shape[1], x.shape[2]),
        outputs=10 if classes else 2,
        rows=len(x),
        loss="cross_entropy" if classes else "squared_error",
        steps=grown * -(-len(x) // _BATCH),
    )
    net = technique.make(setting)
    schedule = None if technique.schedule is None else technique.schedule(net, setting)
    optimiser = torch.optim.Adam(net.parameters(), _LEARNING_RATE)
    step = (lambda: None) if schedule is None else schedule.step
    first = 1 if schedule is None else grown
    best, best_score, weights, seconds = first, math.inf, None, []
    for epoch in range(1, epochs + 1):
        seconds.append(_epoch(net.train(), optimiser, (x, y), task, step))
        if epoch < first:
            continue
        score = _score(net.eval(), fold, task)
        if weights is None or score < best_score:
            best, best_score = epoch, score
            weights = {name: value.clone() for name, value in net.state_dict().items()}
        if epoch - best >= PATIENCE:
            break
    assert weights is not None
    net.load_state_dict(weights)
    return Training(net.eval(), best, epoch - best < PATIENCE, statistics.median(seconds))


def _epoch(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    rows: tuple[Tensor, Tensor],
    task: AnyTask,
    stepped: Callable[[], None],
) -> float:
    """Seconds of CPU time that it took."""
    x, y = rows
    began = time.process_time()
    for batch in torch.split(torch.randperm(len(x)), _BATCH):
        loss = _loss(net(x[batch]), y[batch], task) + regularization(net)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        stepped()
    return time.process_time() - began


def _loss(out: Tensor, targets: Tensor, task: AnyTask) -> Tensor:
    if isinstance(task, Classification):
        return F.cross_entropy(out, targets)
    mean, log_variance = out.chunk(2, 1)
    return F.gaussian_nll_loss(mean, targets, log_variance.exp(), eps=1e-6)


def _score(net: nn.Module, fold: Fold, task: AnyTask) -> float:
    inputs, targets = fold.validation
    return deterministic(net, inputs, task).losses(targets).mean().item()
