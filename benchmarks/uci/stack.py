"""Nets of one hidden layer, many at once: dropout on the input and on the hidden units of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stack(nn.Module):
    """M nets `x → dropout → linear → relu → dropout → linear`, with the weights of each its own.

    Net m drops with the rate `rates[m]`; nets of one rate lie side by side. Weights begin as in the
    paper's code (Glorot & Bengio 2010, uniform; biases zero).

    Args:
        rates: of each net, rising.
        features: d.
        hidden: H.
        outputs: K.
        seed: of the weights.
    """

    def __init__(
        self, rates: Sequence[float], features: int, hidden: int, outputs: int, seed: int
    ) -> None:
        super().__init__()
        assert list(rates) == sorted(rates), rates
        self.groups = tuple((p, len(list(nets))) for p, nets in itertools.groupby(rates))
        self.scale: Tensor  # of what is kept, [M, 1, 1]
        self.register_buffer("scale", 1.0 / (1.0 - torch.tensor(list(rates))[:, None, None]))
        generator = torch.Generator().manual_seed(seed)
        nets = len(rates)

        def glorot(inputs: int, outputs: int) -> nn.Parameter:
            limit = (6.0 / (inputs + outputs)) ** 0.5
            values = torch.rand(nets, inputs, outputs, generator=generator)
            return nn.Parameter(limit * (2.0 * values - 1.0))

        self.first = glorot(features, hidden)  # [M, d, H]
        self.first_bias = nn.Parameter(torch.zeros(nets, 1, hidden))
        self.second = glorot(hidden, outputs)  # [M, H, K]
        self.second_bias = nn.Parameter(torch.zeros(nets, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """What mcdrop samples: `[B, M, d]` to `[B, M, K]`, a row of its own for each net."""
        hidden = torch.einsum("bmd,mdh->bmh", self._drop(x), self.first)
        hidden = self._drop(F.relu(hidden + self.first_bias[:, 0]))
        return torch.einsum("bmh,mhk->bmk", hidden, self.second) + self.second_bias[:, 0]

    def _drop(self, x: Tensor) -> Tensor:
        parts = x.split([count for _, count in self.groups], 1)
        dropped = [
            F.dropout(part, p, self.training)
            for part, (p, _) in zip(parts, self.groups, strict=True)
        ]
        return torch.cat(dropped, 1)


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks of a batch, 0 or 1 / (1 - p): of the inputs `[M, n, d]`, of the units `[M, n, H]`."""

    inputs: Tensor
    hidden: Tensor


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass under given masks, and what its gradient needs.

    Attributes:
        inputs: `[M, n, d]`, masked.
        hidden: `[M, n, H]`, masked.
        output: `[M, n, K]`.
    """

    inputs: Tensor
    hidden: Tensor
    output: Tensor


def passed(stack: Stack, x: Tensor, masks: Masks) -> Pass:
    """The nets' outputs under masks from outside.

    Args:
        stack: the nets.
        x: `[M, n, d]`.
        masks: of this batch.
    """
    inputs = x * masks.inputs
    hidden = torch.baddbmm(stack.first_bias, inputs, stack.first).relu_().mul_(masks.hidden)
    return Pass(inputs, hidden, _narrow_product(hidden, stack.second) + stack.second_bias)


def gradients(stack: Stack, done: Pass, slope: Tensor) -> dict[str, Tensor]:
    """The gradient by hand: autograd would keep, and pass over, every value several times more.

    Args:
        stack: the nets.
        done: their pass.
        slope: of the loss by the output, `[M, n, K]`.

    Returns:
        The gradient of each parameter, by name.
    """
    # a masked unit is above zero where it is kept and its ReLU open: only the factor is missing
    back = _outer(slope * stack.scale, stack.second)
    back = torch.ops.aten.threshold_backward(back, done.hidden, 0)
    return {
        "first": done.inputs.transpose(1, 2) @ back,
        "first_bias": back.sum(1, keepdim=True),
        "second": torch.stack(
            [(done.hidden * slope[..., k, None]).sum(1) for k in range(slope.shape[2])], 2
        ),
        "second_bias": slope.sum(1, keepdim=True),
    }


def _narrow_product(hidden: Tensor, weight: Tensor) -> Tensor:
    """`hidden @ weight` for one or two outputs, where a batched product is four times slower."""
    columns = weight.unbind(2)  # [M, H] each
    return torch.stack([(hidden * column[:, None]).sum(2) for column in columns], 2)


def _outer(slope: Tensor, weight: Tensor) -> Tensor:
    """`slope @ weightᵀ`, likewise: `[M, n, K]`, `[M, H, K]` to `[M, n, H]`."""
    out = slope[..., 0, None] * weight[:, None, :, 0]
    for k in range(1, slope.shape[2]):
        out.addcmul_(slope[..., k, None], weight[:, None, :, k])
    return out
