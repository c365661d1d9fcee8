"""Recurrent layers and attention without masks of their own, made fit for vmap.

vmap has no rule for recurrent layers, and takes fused attention row by row. As the weights are
shared by all samples, the sample axis can join the batch axis instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
        bias = None if args[3] is None else _batched_first(args[3], in_dims[3], samples)
        rank = max(t.ndim for t in (query, key, value))
        if rank == 3:  # no batch axis: a row of one, or samples would attend to each other
            parts = [t if t is None else t.unsqueeze(1) for t in (query, key, value, bias)]
            dims = tuple(None if part is None else 0 for part in parts)
            out, _ = _FoldedAttention.vmap(info, dims, *parts, *args[4:])
            return out.squeeze(1), 0
        rows = torch.broadcast_shapes(*(t.shape[1:2] for t in (query, key, value)))
        folded = (t.expand(samples, *rows, *t.shape[2:]).flatten(0, 1) for t in (query, key, value))
        if bias is not None:  # [S, ..., L, M]: missing leading axes are put in behind S
            missing = rank - bias.ndim
            bias = bias.reshape(bias.shape[:1] + (1,) * missing + bias.shape[1:])
            bias = bias.expand(samples, *rows, *bias.shape[2:]).flatten(0, 1)
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
