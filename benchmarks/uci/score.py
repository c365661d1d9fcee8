"""What a stack of nets is worth on held-out rows: sampled by mcdrop, judged by its metrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import mcdrop
from benchmarks.uci.stack import Stack
from mcdrop.metrics.functional import mixture_negative_log_likelihood

# Samples of so many values are held at a time.
_VALUES = 1 << 24


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out rows of each net, standardised by its training rows, and how to undo that.

    Attributes:
        x: `[B, M, d]`.
        y: targets in their own units, `[B, M]`.
        mean: of the training targets, `[M]`.
        std: of the training targets, `[M]`.
    """

    x: Tensor
    y: Tensor
    mean: Tensor
    std: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """Of each net, `[M]`, in the targets' own units.

    Attributes:
        rmse: of the Monte Carlo mean.
        log_likelihood: mean over rows of the log density under the mixture of samples.
    """

    rmse: Tensor
    log_likelihood: Tensor


def score(stack: Stack, rows: HeldOut, noise: Tensor, samples: int, seed: int = 0) -> Scores:
    """Predict held-out rows and compare with what is true.

    Args:
        stack: M nets, of one output μ or of two, μ and log σ², in standardised units.
        rows: of each net.
        noise: `[M]`: standard deviation of the noise in units of the targets, for nets with one
            output; a factor of the predicted ones for nets with two.
        samples: T.
        seed: of the masks.
    """
    mc = mcdrop.MCDropout(stack.eval(), rows.x[:2], task="regression", engine="batched")
    step = max(1, _VALUES // (samples * rows.y.shape[1]))
    squares, logs = [], []
    for first in range(0, len(rows.y), step):
        some = slice(first, first + step)
        drawn = mc.sample(rows.x[some], samples=samples, seed=seed)  # [T, b, M, K]
        means = drawn[..., 0] * rows.std + rows.mean
        stds = noise.expand(means.shape[1:])
        if drawn.shape[-1] == 2:
            stds = noise * rows.std * (0.5 * drawn[..., 1]).exp()
        squares.append((means.mean(0) - rows.y[some]).square().sum(0))
        for net in range(means.shape[2]):
            own = stds[..., net]
            found = mixture_negative_log_likelihood(means[..., net], own, rows.y[some, net])
            logs.append(-found * means.shape[1])
    nets = rows.y.shape[1]
    return Scores(
        rmse=(torch.stack(squares).sum(0) / len(rows.y)).sqrt(),
        log_likelihood=torch.stack(logs).reshape(-1, nets).sum(0) / len(rows.y),
    )
