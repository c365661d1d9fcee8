"""One layer and direction of a variational recurrent network, as an operation.

A trace of its loop over time would fix the number of steps. So while it is exported a layer is one
operation, to which its masks are operands like any other, made by ordinary sites in front of it; in
a program it is a node with the kernel below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mcdrop.program.recurrence import GATES, STATES, steps

VARIATIONAL_RNN = "mcdrop.variational_rnn.default"
# Registered when this module is imported: torch has no other way to know an operation.
_library = torch.library.Library("mcdrop", "FRAGMENT")
_library.define(
    "variational_rnn(str mode, Tensor x, Tensor[] state, Tensor? input_mask, "
    "Tensor? recurrent_mask, Tensor[] weights, Tensor? lengths, bool reverse) -> Tensor[]"
)
MASKS = (3, 4)  # which arguments of it are masks; None says that nothing is dropped
# Numbers that the products of some time steps may take up where no gradient keeps them anyway.
_BLOCK = 1 << 22


def variational_rnn(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    recurrent_mask: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    reverse: bool,
) -> list[Tensor]:
    """One layer in one direction, differentiable in everything but the masks.

    Args:
        mode: `"lstm"` or `"gru"`.
        x: `[T, B, D]`; or of fewer rows, which are then those of each of several samples.
        state: h (and c) to begin with, each `[B, H]`.
        input_mask: what x is multiplied by at every step, `[B, 1, D]`, or `[B, G, D]` where each
            gate has its own; as many rows as x.
        recurrent_mask: what h is multiplied by where W_hh reads it, `[B, 1, H]` or `[B, G, H]`.
        weights: W_ih, W_hh and, if there are any, b_ih and b_hh, as torch lays them out.
        lengths: int64 `[B]`, of sequences that end early: their outputs are zero from there on.
        reverse: whether to begin at the last step (of each row) and go backwards.

    Returns:
        Output `[T, B, H]`, then h (and c) after the step taken last, each `[B, H]`.
    """
    if recurrent_mask is None and lengths is None and _gates(input_mask) == 1:
        return _unmasked(mode, x, state, input_mask, weights, reverse)
    rows, steps_ = state[0].shape[0], x.shape[0]
    valid, order = None, None
    if lengths is not None:
        lengths = lengths.clamp(0, steps_)
        time = torch.arange(steps_, device=x.device)[:, None]
        valid = time < lengths  # [T, B]
        order = torch.where(valid, lengths - 1 - time, time) if reverse else None
        # what stands beyond a sequence must not spoil its gradients, were it not finite
        x = torch.where(valid[:, : x.shape[1], None], x, 0.0)
    x = _turned(x, reverse, order)
    sequences = _sequences(mode, x, state, input_mask, recurrent_mask, weights, rows)
    finals = [
        sequence[-1] if lengths is None else _last(first.to(sequence.dtype), sequence, lengths)
        for first, sequence in zip(state, sequences, strict=True)
    ]
    out = sequences[0] if valid is None else torch.where(valid[..., None], sequences[0], 0.0)
    return [_turned(out, reverse, order), *finals]


def _gates(mask: Tensor | None) -> int:
    return 1 if mask is None else mask.shape[1]


def _unmasked(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    weights: Sequence[Tensor],
    reverse: bool,
) -> list[Tensor]:
    """Nothing is dropped on the way from step to step: torch's own layer is the faster one."""
    if input_mask is not None:
        x = x * input_mask.squeeze(1)
    x = _repeated(x, state[0].shape[0])
    x = x.flip(0) if reverse else x
    function: Callable[..., Any] = torch.lstm if mode == "lstm" else torch.gru
    first: Any = [s[None] for s in state]
    first = first if mode == "lstm" else first[0]
    tail = (len(weights) == 4, 1, 0.0, torch.is_grad_enabled(), False, False)
    out, *finals = function(x, first, list(weights), *tail)
    return [out.flip(0) if reverse else out, *(final.squeeze(0) for final in finals)]


def _sequences(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    recurrent_mask: Tensor | None,
    weights: Sequence[Tensor],
    rows: int,
) -> list[Tensor]:
    """States after each step, `[T, B, H]` each: all steps at once, or block by block."""
    w_ih, w_hh, *biases = weights
    bias, recurrent_bias = biases or (None, None)
    if mode == "lstm" and bias is not None and recurrent_bias is not None:
        bias, recurrent_bias = bias + recurrent_bias, None
    apart = _gates(recurrent_mask) > 1
    mask = recurrent_mask
    if mask is not None:
        mask = mask.transpose(0, 1) if apart else mask.squeeze(1)
    size = len(x)
    if not torch.is_grad_enabled():
        size = max(1, _BLOCK // (rows * (len(w_ih) + _gates(input_mask) * x.shape[2])))
    blocks: list[tuple[Tensor, ...]] = []
    current = tuple(state)
    for block in x.split(size):
        products = _products(mode, block, input_mask, w_ih, bias, apart)
        products = _repeated(products, rows)
        to = products.dtype  # under autocast narrower than the rest
        cast = [None if t is None else t.to(to) for t in (recurrent_bias, mask)]
        made = steps(products, tuple(s.to(to) for s in current), w_hh.to(to), *cast)
        current = tuple(sequence[-1] for sequence in made)
        blocks.append(made)
    joined = zip(*blocks, strict=True)
    return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in joined]


def _products(
    mode: str,
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    apart: bool,
) -> Tensor:
    """What the input is to the gates: `[T, B, G·H]`, or `[T, G, B, H]` if `apart`."""
    gates = GATES[mode]
    if _gates(mask) == 1:
        flat = F.linear(x if mask is None else x * mask.squeeze(1), weight, bias)
        return flat.unflatten(2, (gates, -1)).transpose(1, 2) if apart else flat
    assert mask is not None
    masked = x * mask.transpose(0, 1)[:, None]  # [G, T, B, D]
    turned = weight.unflatten(0, (gates, -1)).transpose(1, 2)  # [G, D, H]
    shift = turned.new_zeros(()) if bias is None else bias.reshape(gates, 1, -1)
    out = torch.baddbmm(shift, masked.flatten(1, 2), turned)
    parts = out.unflatten(1, x.shape[:2])  # [G, T, B, H]
    laid: Tensor = parts.transpose(0, 1) if apart else parts.permute(1, 2, 0, 3).flatten(2)
    return laid


def _repeated(x: Tensor, rows: int) -> Tensor:
    """`[…, B, D]` of rows that all samples share, for each of these."""
    times = rows // x.shape[-2] if rows else 1
    return x if times == 1 else x.repeat(*(1,) * (x.ndim - 2), times, 1)


def _turned(x: Tensor, reverse: bool, order: Tensor | None) -> Tensor:
    """`[T, B, …]` with its steps turned round, in each row those up to its end; its own inverse."""
    if not reverse:
        return x
    if order is None:
        return x.flip(0)
    index: Tensor = order[:, : x.shape[1], None].expand(x.shape)
    return x.gather(0, index)


def _last(first: Tensor, sequence: Tensor, lengths: Tensor) -> Tensor:
    """What a sequence holds at each row's end; what it began with, where it has no steps."""
    index = (lengths - 1).clamp_min(0)[None, :, None].expand(1, *sequence.shape[1:])
    return torch.where(lengths[:, None] > 0, sequence.gather(0, index).squeeze(0), first)


def check_operands(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    recurrent_mask: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    reverse: bool,
) -> None:
    """Raise unless the operands fit together; their types are another matter under autocast.

    Raises:
        ValueError: they do not.
    """
    gates = GATES[mode]
    steps_, rows, features = x.shape
    hidden = state[0].shape[1]
    expected = ((gates * hidden, features), (gates * hidden, hidden), *[(gates * hidden,)] * 2)
    fits = (
        isinstance(reverse, bool)
        and steps_ > 0
        and len(state) == STATES[mode]
        and len(weights) in (2, 4)
        and all(s.shape == (rows, hidden) for s in state)
        and all(w.shape == shape for w, shape in zip(weights, expected, strict=False))
        and _fits(input_mask, rows, gates, features)
        and _fits(recurrent_mask, rows, gates, hidden)
        and (lengths is None or (lengths.shape == (rows,) and lengths.dtype == torch.int64))
    )
    if not fits:
        raise ValueError(f"the operands of {VARIATIONAL_RNN} ({mode}) do not fit together")


def variational_rnn_shapes(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    recurrent_mask: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    reverse: bool,
) -> list[Tensor]:
    """What `variational_rnn` returns, in shape and type only.

    Raises:
        ValueError: the operands do not fit together.
    """
    check_operands(mode, x, state, input_mask, recurrent_mask, weights, lengths, reverse)
    tensors = (x, *state, *weights, *(m for m in (input_mask, recurrent_mask) if m is not None))
    if not all(t.dtype == x.dtype and t.is_floating_point() for t in tensors):
        raise ValueError(f"the operands of {VARIATIONAL_RNN} ({mode}) are of different types")
    out = x.new_empty((*x.shape[:2], state[0].shape[1]))
    return [out, *(s.new_empty(s.shape) for s in state)]


def _fits(mask: Tensor | None, rows: int, gates: int, features: int) -> bool:
    if mask is None:
        return True
    known = mask.ndim == 3 and mask.shape[1] in (1, gates)
    return known and mask.shape[0] == rows and mask.shape[2] == features


_library.impl("variational_rnn", variational_rnn, "CompositeExplicitAutograd")
_library.impl("variational_rnn", variational_rnn_shapes, "Meta")
