"""The operations that lowering adds to ATen: they read an explicit mask, or know how to be vmapped.

A mask is `[R, *shape]`: R = 1 for a mask shared across rows, R = B for one of each row. `shape` is
the site's, with the batch taken out of axis `dim` (see `BatchLayout`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.folded import folded_attention, rnn, rnn_shapes
from mcdrop.program.folded_variational import folded_variational
from mcdrop.program.ops import resolve
from mcdrop.program.pooling import max_pool2d
from mcdrop.program.thinned_kernels import THINNED_KERNELS
from mcdrop.program.variational_rnn import VARIATIONAL_RNN, variational_rnn_shapes

# Self-normalising networks, Klambauer et al. 2017: the value -lambda * alpha that a dropped unit
# takes.
SELU_FLOOR = -1.7580993408473766
# Zero, not NaN, where everything is masked out.
SAFE_SOFTMAX = torch.ops.aten._safe_softmax.default  # noqa: SLF001 (has no public name)


def aligned(mask: Tensor, size: int, dim: int | None, outer: int | None, folded: bool) -> Tensor:
    """The mask `[R, *shape]` laid along a tensor whose axis `dim` has `size` elements.

    Returns:
        Tensor that broadcasts against the site's tensor.
    """
    if dim is None:
        return mask.squeeze(0)
    if not folded:  # [R, ..., 1, ...] -> [..., R, ...]
        return mask.movedim(0, dim).squeeze(dim + 1)
    around = mask.shape[dim + 1]  # outer * inner
    first = around if outer is None else outer
    rows = size // around
    split = mask.unflatten(dim + 1, (first, around // first)).movedim(0, dim + 1)
    shape = list(split.shape)  # [..., outer, R, inner, ...]
    shape[dim + 1] = rows
    laid: Tensor = split.expand(shape).flatten(dim, dim + 2)
    return laid


def scale(x: Tensor, mask: Tensor, dim: int | None, outer: int | None, folded: bool) -> Tensor:
    """Dropout: `x * mask`, the mask already divided by the keep probability."""
    size = 0 if dim is None else x.shape[dim]
    return x * aligned(mask.to(x.dtype), size, dim, outer, folded)


def alpha(
    x: Tensor, mask: Tensor, p: float, dim: int | None, outer: int | None, folded: bool
) -> Tensor:
    """Alpha dropout (Klambauer et al. 2017): dropped units take SELU's floor, moments stay."""
    size = 0 if dim is None else x.shape[dim]
    keep = aligned(mask.to(x.dtype), size, dim, outer, folded)
    if p >= 1.0:
        return x * 0.0
    a = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * SELU_FLOOR**2))
    b = -a * p * SELU_FLOOR
    return x * (keep * a) + ((1.0 - keep) * (a * SELU_FLOOR) + b)


def noise(  # the ways hand-written noise is made from uniform or normal words
    like: Tensor,
    mask: Tensor,
    shift: float,
    factor: float,
    transform: str,
    dim: int | None,
    outer: int | None,
    folded: bool,
) -> Tensor:
    """A noise tensor of the shape of `like`: `shift + factor * mask`, through `transform`."""
    laid = aligned(mask, 0 if dim is None else like.shape[dim], dim, outer, folded)
    if transform == "exponential":
        laid = -torch.log1p(-laid)
    return (shift + factor * laid).to(like.dtype).expand(like.shape)


def bernoulli(
    probability: Tensor, mask: Tensor, dim: int | None, outer: int | None, folded: bool
) -> Tensor:
    """1 where the uniform mask is below an elementwise probability."""
    size = 0 if dim is None else probability.shape[dim]
    return (aligned(mask, size, dim, outer, folded) < probability).to(probability.dtype)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Tensor,
    is_causal: bool,
    factor: float | None,
    enable_gqa: bool,
    dim: int | None,
    outer: int | None,
    folded: bool,
) -> Tensor:
    """Scaled dot-product attention written out: `(softmax(q kᵀ·factor + bias) · mask) v`.

    Shapes: query `[..., L, E]`, key `[..., M, E]`, value `[..., M, V]`, mask over `[..., L, M]`.
    """
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, dim=-3) for t in (key, value))
    factor = 1.0 / math.sqrt(query.shape[-1]) if factor is None else factor
    scores = (query * factor) @ key.transpose(-2, -1)
    if is_causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if bias is not None:
        banned = bias.dtype == torch.bool
        scores = scores.masked_fill(~bias, -math.inf) if banned else scores + bias
    weights = SAFE_SOFTMAX(scores, -1)
    return scale(weights, mask, dim, outer, folded) @ value


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,  # noqa: ARG001 (the place of an argument of ATen's that evaluation ignores)
    eps: float,
) -> tuple[Tensor]:
    """Batch normalisation with running statistics, as a scale and a shift of each channel."""
    factor = torch.rsqrt(variance + eps)
    factor = factor if weight is None else factor * weight
    shift = -mean * factor if bias is None else bias - mean * factor
    shape = (-1, *(1 for _ in x.shape[2:]))
    return ((x * factor.reshape(shape) + shift.reshape(shape)).to(x.dtype),)


def weight_norm(direction: Tensor, size: Tensor, dim: int = 0) -> Tensor:
    """Weight normalisation, `size * v / |v|`; ATen's kernel trusts the shape of `size` blindly."""
    if dim == -1:  # ATen's way to say: over all of it
        norm = torch.linalg.vector_norm(direction)
    else:
        others = [axis for axis in range(direction.ndim) if axis != dim % direction.ndim]
        norm = torch.linalg.vector_norm(direction, dim=others or None, keepdim=True)
    if size.numel() not in (1, norm.numel()):
        raise ValueError("the operands of weight_norm do not fit together")
    weight: Tensor = direction * (size / norm)
    return weight


def index_put(target: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """`torch.index_put`; a mask with one value is a `where`, which vmap can take."""
    masked = len(indices) == 1 and indices[0].dtype == torch.bool
    if masked and values.numel() == 1 and not accumulate:
        mask = indices[0].reshape(indices[0].shape + (1,) * (target.ndim - indices[0].ndim))
        return torch.where(mask, values.to(target.dtype).reshape(()), target)
    put: Tensor = torch.ops.aten.index_put.default(target, indices, values, accumulate)
    return put


def slice_scatter(
    target: Tensor,
    source: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """`torch.slice_scatter` with its end within the axis: vmap overflows on "to the end"."""
    size = target.shape[dim]
    end = size if end is None else min(end, size)
    return torch.slice_scatter(target, source, dim, start, end, step)


def feature_shape(x: Tensor) -> tuple[int, ...]:
    """Shape of a channel mask: one element per leading pair of axes."""
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))


def attention_shape(query: Tensor, key: Tensor) -> tuple[int, ...]:
    """Shape of the attention weights, `[..., L, M]`; grouped keys count as the query's heads."""
    leading, groups = tuple(query.shape[:-2]), tuple(key.shape[:-2])
    if len(leading) > 1 and len(groups) == len(leading):
        groups = (*groups[:-1], leading[-1])
    return (*torch.broadcast_shapes(leading, groups), query.shape[-2], key.shape[-2])


# For each kernel that reads a mask: the shape of the noise it lays over its operands.
NOISE_SHAPES: Mapping[str, Callable[..., tuple[int, ...]]] = MappingProxyType(
    {
        "mcdrop.scale": lambda x, *_: tuple(x.shape),
        "mcdrop.scale_features": lambda x, *_: feature_shape(x),
        "mcdrop.alpha": lambda x, *_: tuple(x.shape),
        "mcdrop.alpha_features": lambda x, *_: feature_shape(x),
        "mcdrop.noise": lambda like, *_: tuple(like.shape),
        "mcdrop.bernoulli": lambda probability, *_: tuple(probability.shape),
        "mcdrop.attention": lambda query, key, *_: attention_shape(query, key),
    }
)


def _narrowing(convolution: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A convolution under autocast: vmap takes it apart before autocast has seen its operands."""

    def call(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *options: Any, **named: Any
    ) -> Tensor:
        device = x.device.type
        if device == "meta" or not torch.is_autocast_enabled(device):
            return convolution(x, weight, bias, *options, **named)
        dtype = torch.get_autocast_dtype(device)
        operands = [_cast(operand, dtype) for operand in (x, weight, bias)]
        return convolution(*operands, *options, **named)

    return call


def _cast(operand: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return operand.to(dtype) if operand is not None and operand.dtype == torch.float32 else operand


_CONVOLUTIONS = {
    f"aten.{name}.{overload}": _narrowing(resolve(f"aten.{name}.{overload}"))
    for name, overload in (
        *((f"conv{n}d", kind) for n in (1, 2, 3) for kind in ("default", "padding")),
        ("conv_transpose1d", "default"),
        ("conv_transpose2d", "input"),
        ("conv_transpose3d", "input"),
        ("convolution", "default"),
    )
}

KERNELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "mcdrop.scale": scale,
        "mcdrop.scale_features": scale,
        "mcdrop.alpha": alpha,
        "mcdrop.alpha_features": alpha,
        "mcdrop.noise": noise,
        "mcdrop.bernoulli": bernoulli,
        "mcdrop.attention": attention,
        "mcdrop.folded_attention": folded_attention,
        "mcdrop.copy": lambda target, source: source.to(target.dtype).expand(target.shape),
        "mcdrop.batch_norm": batch_norm,
        "mcdrop.rnn": rnn,
        VARIATIONAL_RNN: folded_variational,
        "mcdrop.index_put": index_put,
        "mcdrop.weight_norm": weight_norm,
        "mcdrop.slice_scatter": slice_scatter,
        "mcdrop.tuple": lambda *parts: parts,
        "aten.max_pool2d.default": max_pool2d,
        **_CONVOLUTIONS,
        **THINNED_KERNELS,
    }
)

# For the meta device: what loops over time is not run there.
SHAPES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"mcdrop.rnn": rnn_shapes, VARIATIONAL_RNN: variational_rnn_shapes}
)
