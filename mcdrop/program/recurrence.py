"""LSTM and GRU over time, with a mask on the state that the weights read, and their gradients.

What depends on the inputs alone comes in as *products*, of all steps at once. A step does only what
must wait for the step before it; backward, slopes and gradients of weights are taken for all steps
together.

Gates lie next to each other, `[B, G·H]`, where one mask is for all of them, so that a step is one
product; where each has its own, they are in front, `[G, B, H]`, and a step is one batched product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

GATES: Mapping[str, int] = MappingProxyType({"lstm": 4, "gru": 3})
STATES: Mapping[str, int] = MappingProxyType({"lstm": 2, "gru": 1})
_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
_tanh_slope = torch.ops.aten.tanh_backward.grad_input


def steps(
    products: Tensor,
    state: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """The states after each step, differentiable in everything but the mask.

    Args:
        products: of the inputs, with what biases they take: `[T, B, G·H]`, or `[T, G, B, H]` where
            each gate has a mask of its own.
        state: h (and c, of an LSTM) before the first step, each `[B, H]`.
        weight: W_hh, `[G·H, H]`.
        bias: b_hh of a GRU, `[3·H]`; an LSTM has it in the products.
        mask: on h where the weight reads it: `[B, H]`, or `[G, B, H]`; None for none.

    Returns:
        h (and c) after each step, each `[T, B, H]`.
    """
    if products.ndim == 4:  # a weight for each gate
        gates = products.shape[1]
        weight = weight.unflatten(0, (gates, -1))
        bias = None if bias is None else bias.reshape(gates, 1, -1)
    if len(state) == 2:
        outs: tuple[Tensor, ...] = _lstm(products, *state, weight, mask)
    else:
        bias = weight.new_zeros(()) if bias is None else bias
        outs = _gru(products, *state, weight, bias, mask)
    return outs[: len(state)]


def _parted(gates: Tensor, count: int) -> Tensor:
    """Gates `[T, G, B, H]`, whichever way they lie; a view."""
    return gates if gates.ndim == 4 else gates.unflatten(2, (count, -1)).transpose(1, 2)


def _over_steps(*sequences: Tensor) -> zip[tuple[Tensor, ...]]:
    """Step by step; the views are made at once, as a step costs microseconds."""
    return zip(*(sequence.unbind(0) for sequence in sequences), strict=True)


def _lstm_forward(
    products: Tensor, h: Tensor, c: Tensor, weight: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    gates = products.new_empty(products.shape)
    hs, cs = (products.new_empty((len(products), *h.shape)) for _ in range(2))
    multiply = torch.addmm if gates.ndim == 3 else torch.baddbmm
    turned, squashed = weight.transpose(-1, -2), torch.empty_like(h)
    masked = h if mask is None else torch.empty_like(mask)
    parts = _parted(gates, 4)
    views = (parts[:, :2], *parts.unbind(1))
    for given, made, both, i, f, g, o, h_next, c_next in _over_steps(
        products, gates, *views, hs, cs
    ):
        read = h if mask is None else torch.mul(h, mask, out=masked)
        multiply(given, read, turned, out=made)
        both.sigmoid_()
        g.tanh_()
        o.sigmoid_()
        torch.mul(f, c, out=c_next).addcmul_(i, g)
        torch.mul(o, torch.tanh(c_next, out=squashed), out=h_next)
        h, c = h_next, c_next
    return hs, cs, gates


def _gru_forward(
    products: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    gates, recurrent = (products.new_empty(products.shape) for _ in range(2))
    hs = products.new_empty((len(products), *h.shape))
    multiply = torch.addmm if gates.ndim == 3 else torch.baddbmm
    turned = weight.transpose(-1, -2)
    masked = h if mask is None else torch.empty_like(mask)
    given, made, own = (_parted(each, 3) for each in (products, gates, recurrent))
    views = (given[:, :2], given[:, 2], own[:, :2], own[:, 2], made[:, :2], *made.unbind(1))
    for out, x_both, x_n, h_both, h_n, both, r, z, n, h_next in _over_steps(recurrent, *views, hs):
        read = h if mask is None else torch.mul(h, mask, out=masked)
        multiply(bias, read, turned, out=out)
        torch.add(x_both, h_both, out=both).sigmoid_()
        torch.addcmul(x_n, r, h_n, out=n).tanh_()
        torch.lerp(n, h, z, out=h_next)
        h = h_next
    return hs, gates, recurrent


def _before(first: Tensor, sequence: Tensor) -> Tensor:
    """What stood before each step."""
    return torch.cat([first[None], sequence[:-1]])


def _read_gradient(gates: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    """What the gradients of a step's gates are to the state before it, by way of the weight."""
    if gates.ndim == 3:
        assert mask is not None
        return torch.bmm(gates, weight).mul_(mask).sum(0)
    read = torch.mm(gates, weight)
    return read if mask is None else read.mul_(mask)


def _weight_gradient(gates: Tensor, before: Tensor, mask: Tensor | None) -> Tensor:
    """Of W_hh, from the gradients of all gates: one product, or one for each gate."""
    if gates.ndim == 3:
        read = before if mask is None else before * mask
        return gates.flatten(0, 1).t() @ read.flatten(0, 1)
    assert mask is not None
    read = (before[:, None] * mask).transpose(0, 1).flatten(1, 2)  # [G, T·B, H]
    return gates.transpose(0, 1).flatten(1, 2).transpose(1, 2) @ read


class _LSTM(torch.autograd.Function):
    """An LSTM's steps, with the gates kept for the gradient."""

    @staticmethod
    def forward(
        products: Tensor, h: Tensor, c: Tensor, weight: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _lstm_forward(products, h, c, weight, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what the gradient needs; outputs that nobody used have none."""
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:], *output)

    @staticmethod
    def backward(
        ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        """Once; see `_once`."""
        return _once(_LSTM._gradients, ctx.saved_tensors, grad_h, grad_c)

    @staticmethod
    def _gradients(
        saved: tuple[Any, ...], grad_h: Tensor | None, grad_c: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        first_h, first_c, weight, mask, hs, cs, gates = saved
        i, f, g, o = _parted(gates, 4).unbind(1)
        squashed = cs.tanh()
        slopes, out = torch.empty_like(gates), torch.empty_like(gates)
        parts, grads = _parted(slopes, 4), _parted(out, 4)
        _sigmoid_slope(g, i, grad_input=parts[:, 0])
        _sigmoid_slope(_before(first_c, cs), f, grad_input=parts[:, 1])
        _tanh_slope(i, g, grad_input=parts[:, 2])
        _sigmoid_slope(squashed, o, grad_input=parts[:, 3])
        through = torch.ops.aten.tanh_backward(o, squashed)
        views = (f, through, parts[:, :3], parts[:, 3], out, grads[:, :3], grads[:, 3])
        dh, dc = torch.zeros_like(first_h), torch.zeros_like(first_c)
        for t, (forget, across, by_c, by_h, made, made_c, made_h) in _backwards(views):
            dh = dh if grad_h is None else dh.add_(grad_h[t])
            dc = dc if grad_c is None else dc.add_(grad_c[t])
            dc.addcmul_(dh, across)
            torch.mul(dc, by_c, out=made_c)
            torch.mul(dh, by_h, out=made_h)
            dc.mul_(forget)
            dh = _read_gradient(made, weight, mask)
        return out, dh, dc, _weight_gradient(out, _before(first_h, hs), mask), None


class _GRU(torch.autograd.Function):
    """A GRU's steps, with what the gates were made of kept for the gradient."""

    @staticmethod
    def forward(
        products: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _gru_forward(products, h, weight, bias, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what the gradient needs."""
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:], *output)

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Once; see `_once`."""
        if grad_h is None:
            return (None,) * 5
        return _once(_GRU._gradients, ctx.saved_tensors, grad_h)

    @staticmethod
    def _gradients(saved: tuple[Any, ...], grad_h: Tensor) -> tuple[Tensor | None, ...]:
        first, weight, bias, mask, hs, gates, recurrent = saved
        r, z, n = _parted(gates, 3).unbind(1)
        own, before = _parted(recurrent, 3)[:, 2], _before(first, hs)
        slopes, out = torch.empty_like(gates), torch.empty_like(gates)
        parts = _parted(slopes, 3)
        by_n = torch.ops.aten.tanh_backward(1.0 - z, n)
        _sigmoid_slope(by_n * own, r, grad_input=parts[:, 0])
        _sigmoid_slope(before - n, z, grad_input=parts[:, 1])
        torch.mul(by_n, r, out=parts[:, 2])
        dhs, dh = torch.empty_like(hs), torch.zeros_like(first)
        for t, (total, slope, update, made, made_parts) in _backwards(
            (dhs, parts, z, out, _parted(out, 3))
        ):
            torch.add(dh, grad_h[t], out=total)
            torch.mul(total, slope, out=made_parts)
            dh = _read_gradient(made, weight, mask).addcmul_(total, update)
        to_weight = _weight_gradient(out, before, mask)
        to_bias = out.sum((0, -2), keepdim=True).reshape(bias.shape) if bias.ndim else None
        to_products = out  # but for the last gate, in which r stands between
        torch.mul(dhs, by_n, out=_parted(to_products, 3)[:, 2])
        return to_products, dh, to_weight, to_bias, None


class _Final(torch.autograd.Function):
    """A gradient that has none itself: to ask for it is an error, where silence would be wrong."""

    @staticmethod
    def forward(gradient: Tensor, *_: Tensor | None) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to save."""

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise NotImplementedError(
            "a variational recurrent layer has no second derivative; with all rates 0 torch's own "
            "layer is run, and asked for it"
        )


def _once(
    gradients: Callable[..., tuple[Tensor | None, ...]],
    saved: tuple[Any, ...],
    *given: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients, of which none can be taken.

    `once_differentiable` would let pass gradients whose graph hangs on what was saved alone.
    """
    with torch.no_grad():
        found = gradients(saved, *given)
    if not torch.is_grad_enabled():
        return found
    return tuple(None if g is None else _final(g, *saved, *given) for g in found)


def _backwards(views: tuple[Tensor, ...]) -> Any:
    """Pairs of a step's number and its views, the last step first."""
    return reversed(list(enumerate(_over_steps(*views))))


_lstm: Callable[..., Any] = _LSTM.apply
_gru: Callable[..., Any] = _GRU.apply
_final: Callable[..., Any] = _Final.apply
