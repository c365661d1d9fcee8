"""The operations that lowering adds to ATen: they read an explicit mask, or know how to be vmapped.

A mask is `[R, *shape]`: R = 1 for a mask shared across rows, R = B for one of each row. `shape` is
the site's, with the batch taken out of axis `dim` (see `BatchLayout`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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


class _FoldedAttention(torch.autograd.Function):
    """Attention without dropout; under vmap samples join the batch of the fused kernel."""

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        is_causal: bool,
        factor: float | None,
        enable_gqa: bool,
    ) -> Tensor:
        return F.scaled_dot_product_attention(
            query, key, value, bias, 0.0, is_causal, scale=factor, enable_gqa=enable_gqa
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to save: prediction takes no gradients."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        """Samples and rows become one leading axis, as the fused kernel takes just four."""
        samples = info.batch_size
        query, key, value = (
            _batched_first(arg, dim, samples)
            for arg, dim in zip(args[:3], in_dims[:3], strict=True)
        )
        bias = args[3]
        if bias is not None:  # [S, ..., L, M]: missing leading axes are put in behind S
            bias = _batched_first(bias, in_dims[3], samples)
            missing = query.ndim - bias.ndim
            bias = bias.reshape(bias.shape[:1] + (1,) * missing + bias.shape[1:])
            bias = bias.expand(*query.shape[:2], *bias.shape[2:]).flatten(0, 1)
        folded = (tensor.flatten(0, 1) for tensor in (query, key, value))
        out = _fold_attention(*folded, bias, *args[4:])
        return out.unflatten(0, (samples, -1)), 0


_fold_attention: Callable[..., Any] = _FoldedAttention.apply


def folded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    is_causal: bool,
    factor: float | None,
    enable_gqa: bool,
) -> Tensor:
    """`scaled_dot_product_attention` without dropout, vmapped without a loop."""
    out: Tensor = _fold_attention(query, key, value, bias, is_causal, factor, enable_gqa)
    return out


def _rnn(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    layers: int,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """Recurrent layers without dropout, time first (see `rnn`)."""
    directions = 2 if bidirectional else 1
    biased = len(params) // (layers * directions) in (4, 5)
    tail = (biased, layers, 0.0, False, bidirectional, False)
    if mode == "lstm":
        return torch.lstm(x, list(state), list(params), *tail)
    function = {"gru": torch.gru, "rnn_tanh": torch.rnn_tanh, "rnn_relu": torch.rnn_relu}[mode]
    return function(x, state[0], list(params), *tail)


def rnn_shapes(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    layers: int,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """What `rnn` returns, in shape and type only; torch would unroll it step by step.

    Raises:
        ValueError: the operands do not fit together.
    """
    directions = 2 if bidirectional else 1
    steps, rows, features = x.shape
    width = len(params) // (layers * directions)
    gates = {"lstm": 4, "gru": 3}.get(mode, 1)
    hidden = state[0].shape[-1]  # with a projection, the size of that
    units = params[0].shape[0] // gates
    fits = (
        params[0].shape == (gates * units, features)
        and all(s.shape[:2] == (layers * directions, rows) for s in state)
        and len(params) == layers * directions * width
        and len(state) == (2 if mode == "lstm" else 1)
        and all(t.dtype == x.dtype and t.is_floating_point() for t in (*state, *params))
    )
    for index, weight in enumerate(params):
        part, first = index % width, index < width * directions
        shapes = [
            (gates * units, features if first else hidden * directions),
            (gates * units, hidden),
            *([(gates * units,)] * 2 if width in (4, 5) else []),
            *([(hidden, units)] if width in (3, 5) else []),
        ]
        fits = fits and part < len(shapes) and tuple(weight.shape) == shapes[part]
    if not fits:
        raise ValueError(f"the operands of {mode} do not fit together")
    out = x.new_empty((steps, rows, hidden * directions))
    return (out, *(torch.empty_like(s) for s in state))


class _FoldedRNN(torch.autograd.Function):
    """Recurrent layers; under vmap samples join the batch, as the weights are shared."""

    @staticmethod
    def forward(
        mode: str, layers: int, bidirectional: bool, states: int, x: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        return _rnn(mode, x, rest[:states], rest[states:], layers, bidirectional)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to save: prediction takes no gradients."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        mode: str,
        layers: int,
        bidirectional: bool,
        states: int,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Fold samples into the batch; loop over weights that differ by sample (weight drop)."""
        samples, dims = info.batch_size, in_dims[4:]
        head = (mode, layers, bidirectional, states)
        if any(dim is not None for dim in dims[1 + states :]):
            outs = [
                _fold_rnn(*head, *(_sample(t, d, s) for t, d in zip(tensors, dims, strict=True)))
                for s in range(samples)
            ]
            stacked = tuple(torch.stack(parts) for parts in zip(*outs, strict=True))
            return stacked, (0,) * len(stacked)
        folded = [
            _batched_first(t, d, samples).movedim(0, 1).flatten(1, 2)  # [T, S*B, D]
            for t, d in zip(tensors[: 1 + states], dims[: 1 + states], strict=True)
        ]
        outs = _fold_rnn(*head, *folded, *tensors[1 + states :])
        return tuple(out.unflatten(1, (samples, -1)) for out in outs), (1,) * len(outs)


_fold_rnn: Callable[..., Any] = _FoldedRNN.apply


def rnn(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    layers: int,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """Recurrent layers without dropout, time first, vmapped without a loop.

    Args:
        mode: `"lstm"`, `"gru"`, `"rnn_tanh"` or `"rnn_relu"`.
        x: `[T, B, D]`.
        state: h (and c), each `[layers·directions, B, H]`.
        params: as in `torch.lstm`, layer by layer, direction by direction.
        layers: number of layers.
        bidirectional: whether a second direction runs backwards.

    Returns:
        Output `[T, B, directions·H]`, then the states after the last step.
    """
    out: tuple[Tensor, ...] = _fold_rnn(mode, layers, bidirectional, len(state), x, *state, *params)
    return out


def _batched_first(x: Tensor, dim: int | None, size: int) -> Tensor:
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _sample(x: Tensor, dim: int | None, index: int) -> Tensor:
    return x if dim is None else x.select(dim, index)


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


# For each kernel that reads a mask: the shape of the noise it lays over its operands.
NOISE_SHAPES: Mapping[str, Callable[..., tuple[int, ...]]] = MappingProxyType(
    {
        "mcdrop.scale": lambda x, *_: tuple(x.shape),
        "mcdrop.scale_features": lambda x, *_: feature_shape(x),
        "mcdrop.alpha": lambda x, *_: tuple(x.shape),
        "mcdrop.alpha_features": lambda x, *_: feature_shape(x),
        "mcdrop.noise": lambda like, *_: tuple(like.shape),
        "mcdrop.bernoulli": lambda probability, *_: tuple(probability.shape),
        "mcdrop.attention": lambda query, key, *_: (*query.shape[:-1], key.shape[-2]),
    }
)

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
        "mcdrop.slice_scatter": slice_scatter,
        "mcdrop.tuple": lambda *parts: parts,
    }
)
