"""Training a stack of nets: Adam on batches, every net with masks of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.uci.stack import Masks, Stack, gradients, passed
from mcdrop.sampling import BLOCK, MaskStream, patterns

# From outputs [M, n, K] and targets [M, n] to the slope of the loss by the output.
Slope = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]

_BITS = np.left_shift(1, np.arange(BLOCK)).astype(np.uint16).view(np.int16)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a stack is trained.

    Attributes:
        slope: of the loss.
        decay: `[M]`, the factor of the squared weights (not biases) in each net's loss.
        epochs: passes over the training rows.
        batch: rows of a step.
        rate: Adam's learning rate.
        seed: of the order of rows and of the masks.
    """

    slope: Slope
    decay: Tensor
    epochs: int
    batch: int = 128
    rate: float = 1e-3
    seed: int = 0


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Slope of the mean over the batch of `(μ - y)²`; one output."""
    return (output - target[..., None]) * (2.0 / target.shape[1])


def gaussian(output: Tensor, target: Tensor, beta: float = 0.5) -> Tensor:
    """Slope of the mean over the batch of `v^β (½ s + ½ (μ - y)² / v)`; outputs μ and s = log v.

    The factor counts as a constant (Seitzer et al. 2022, β-NLL). With β = 0, the likelihood itself,
    rows that are fitted badly are given a large variance, and then hardly pull at μ any more.
    """
    spread = output[..., 1]
    error = output[..., 0] - target
    pull = error * (-spread).exp()
    slope = torch.stack((pull, 0.5 - 0.5 * error * pull), 2)
    return slope.mul_((beta * spread).exp_()[..., None] / target.shape[1])


@torch.no_grad()
def train(
    stack: Stack,
    x: Tensor,
    y: Tensor,
    places: Sequence[int],
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train every net of a stack on its own split, in place.

    Args:
        stack: M nets.
        x: training rows of each split, `[splits, N, d]`.
        y: their targets, `[splits, N]`.
        places: which split each net is trained on. Nets of one split see its rows in one order.
        recipe: how.
        progress: told (done, total) epochs.
        after_epoch: called with the number of epochs done.
    """
    splits, rows, _ = x.shape
    own = torch.tensor(places)
    generator = torch.Generator().manual_seed(recipe.seed)
    masks = drawn(stack, min(recipe.batch, rows), recipe.seed)
    named = dict(stack.named_parameters())
    adam = torch.optim.Adam(named.values(), lr=recipe.rate, fused=True)
    decay = 2.0 * recipe.decay[:, None, None]
    every = torch.arange(splits)[:, None]
    for epoch in range(recipe.epochs):
        order = torch.rand(splits, rows, generator=generator).argsort(1)
        for first in range(0, rows, recipe.batch):
            some = order[:, first : first + recipe.batch]
            mask = _first(next(masks), some.shape[1])
            done = passed(stack, x[every, some].index_select(0, own), mask)
            slope = recipe.slope(done.output, y[every, some].index_select(0, own))
            for name, gradient in gradients(stack, done, slope).items():
                if name in ("first", "second"):
                    gradient.addcmul_(decay, named[name])
                named[name].grad = gradient
            adam.step()
        if progress is not None:
            progress(epoch + 1, recipe.epochs)
        if after_epoch is not None:
            after_epoch(epoch + 1)


def drawn(stack: Stack, rows: int, seed: int) -> Iterator[Masks]:
    """Masks of one batch after the other, of so many rows: independent, from mcdrop's stream."""
    stream = MaskStream(seed)
    widths = (stack.first.shape[1], stack.first.shape[2])
    block = 0
    while True:
        made = [
            [
                (p, _patterns(stream, 2 * g + site, block, count * rows * width, p), count)
                for g, (p, count) in enumerate(stack.groups)
            ]
            for site, width in enumerate(widths)
        ]
        for bit in _BITS.tolist():
            inputs, hidden = (
                torch.cat([_unpacked(found, bit, p, (count, rows, width)) for p, found, count in m])
                for m, width in zip(made, widths, strict=True)
            )
            yield Masks(inputs, hidden)
        block += 1


def _patterns(stream: MaskStream, site: int, block: int, units: int, p: float) -> Tensor:
    drops = patterns.independent(stream, site, range(block, block + 1), range(1), units, p)
    return torch.from_numpy(drops.view(np.int16)).flatten()


def _unpacked(drops: Tensor, bit: int, p: float, shape: tuple[int, int, int]) -> Tensor:
    mask = torch.empty(shape)
    torch.eq(drops.bitwise_and(bit).view(shape), 0, out=mask)
    return mask.mul_(1.0 / (1.0 - p))


def _first(masks: Masks, rows: int) -> Masks:
    """Masks of the first rows, for the last batch of an epoch."""
    if masks.inputs.shape[1] == rows:
        return masks
    return Masks(masks.inputs[:, :rows], masks.hidden[:, :rows])
