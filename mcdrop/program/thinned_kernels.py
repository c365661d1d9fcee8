"""The operations of a thinned tail: layers whose weights differ by sample, and the choice of units.

Under vmap a linear layer becomes one batched product. A convolution becomes a loop: vmap would make
one convolution with a group for each sample of it, which is up to four times slower where the
number of channels is no multiple of 16, and the number of kept channels seldom is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def take(x: Tensor, kept: Tensor, held: bool) -> Tensor:
    """The units `kept` of axis 1.

    Args:
        x: `[B, F, ...]`.
        kept: numbers of units, `[K]`.
        held: whether `x` is the same for all samples: reading rows of its transpose is then faster.

    Returns:
        Tensor `[B, K, ...]`.
    """
    if held and x.ndim == 2:
        return x.t().contiguous().index_select(0, kept).t()
    return x.index_select(1, kept)


def thin_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """`activation(x @ weight + bias)`: `[B, I]`, `[I, O]` (not `[O, I]`), `[O]` to `[B, O]`."""
    y = x @ weight
    if bias is not None:
        y = y.add_(bias)  # in place, as nobody else has seen y
    return _activated(y, activation)


def regroup(x: Tensor, *trailing: int) -> Tensor:
    """`x` as `[B, -1, *trailing]`: a reshape that takes any number of channels."""
    return x.reshape(x.shape[0], -1, *trailing)


def _activated(y: Tensor, activation: str) -> Tensor:
    """In place: only for a value that nobody else has seen."""
    assert activation in ("", "relu"), activation
    return y.relu_() if activation else y


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    activation: str,
) -> Tensor:
    function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
    return _activated(function(x, weight, bias, stride, padding, dilation), activation)


class _ThinConv(torch.autograd.Function):
    """A convolution; under vmap a loop over samples (see above)."""

    @staticmethod
    def forward(*args: Any) -> Tensor:
        return _conv(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to save: prediction takes no gradients."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        """One convolution for each sample, `[S, B, O, ...]` in all."""
        tensors, options = args[:3], args[3:]  # input, weight and bias; the rest is no tensor
        passes = []
        for s in range(info.batch_size):
            own: list[Any] = [
                tensor if dim is None else tensor.select(dim, s)
                for tensor, dim in zip(tensors, in_dims[:3], strict=True)
            ]
            passes.append(_conv(*own, *options))
        return torch.stack(passes), 0


_thin_conv: Callable[..., Any] = _ThinConv.apply


def thin_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    activation: str,
) -> Tensor:
    """`activation(conv(x, weight) + bias)` in one, two or three dimensions, without groups.

    Shapes: x `[B, I, ...]`, weight `[O, I, ...]`, bias `[O]`; stride, padding and dilation as in
    `torch.nn.functional.conv2d`.
    """
    out: Tensor = _thin_conv(x, weight, bias, stride, padding, dilation, activation)
    return out


THINNED_KERNELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "mcdrop.take": take,
        "mcdrop.thin_linear": thin_linear,
        "mcdrop.thin_conv": thin_conv,
        "mcdrop.regroup": regroup,
    }
)
