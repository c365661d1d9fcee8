"""Tails in which the sample axis can simply lead: they run without vmap.

vmap is right for any tail, but takes some tenths of a millisecond, longer than a small net's
products. In a chain of linear layers, drop-outs and operations of each element alone, every value
can as well have one more axis in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.ops import resolve


def take(x: Tensor, kept: Tensor, held: bool) -> Tensor:  # noqa: ARG001 (as for one sample)
    """The kept units of features that all samples share: `[B, F]` and `[S, K]` to `[S, B, K]`."""
    samples, units = kept.shape
    rows = x.t().contiguous().index_select(0, kept.flatten())  # rows of the transpose: faster
    return rows.view(samples, units, -1).transpose(1, 2)


def thin_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """A layer with weights of each sample's own: `[S, I, O]`, and a bias `[S, O]` or `[O]`.

    Returns:
        `[S, B, O]` for features `[S, B, I]`, or `[B, I]` that all samples share.
    """
    shared = x if x.ndim == 3 else x.expand(len(weight), *x.shape)
    y = torch.bmm(shared, weight)
    if bias is not None:  # in place: baddbmm would copy it first to where the product goes
        y.add_(bias.unsqueeze(1) if bias.ndim == 2 else bias)
    return y.relu_() if activation else y


def scale(x: Tensor, mask: Tensor, dim: int, outer: int, folded: bool) -> Tensor:  # noqa: ARG001
    """Dropout of rows in front: `[B, ...]` or `[S, B, ...]` times a mask `[S, R, 1, ...]`."""
    return x * mask.to(x.dtype).squeeze(2)


LEADING_KERNELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "mcdrop.take": take,
        "mcdrop.thin_linear": thin_linear,
        "mcdrop.scale": scale,
        "mcdrop.scale_features": scale,
    }
)


def samples_can_lead(graph: Graph, values: Mapping[str, Any]) -> bool:
    """Whether a tail computes the same with `LEADING_KERNELS` and a sample axis in front.

    Args:
        graph: a lowered tail, thinned or not.
        values: its inputs and weights that have no sample axis.
    """
    led: set[str] = set()
    for node in graph.nodes:
        if not _leads(node, led, values):
            return False
        led.add(node.name)
    return all(name in led for _, name in graph.outputs)


def _leads(node: Node, led: set[str], values: Mapping[str, Any]) -> bool:
    first = node.args[0] if node.args else None
    if not isinstance(first, Ref):
        return False
    others = {ref for arg in node.args[1:] for ref in _names(arg)}
    others |= {ref for _, arg in node.kwargs for ref in _names(arg)}
    shared = values.get(first.name)
    if node.op == "mcdrop.take" or (node.op == "mcdrop.thin_linear" and shared is not None):
        return isinstance(shared, Tensor) and shared.ndim == 2 and not led & others
    if node.op in ("mcdrop.scale", "mcdrop.scale_features"):
        rows_first = node.args[2] == 0 and not node.args[4]
        return rows_first and (first.name in led or isinstance(shared, Tensor))
    if first.name not in led:
        return False
    if node.op in ("mcdrop.thin_linear", "aten.linear.default"):
        return not led & others
    alone = node.op.startswith("aten.") and torch.Tag.pointwise in resolve(node.op).tags  # type: ignore[attr-defined]
    return alone and not others


def _names(arg: Any) -> list[str]:
    if isinstance(arg, Ref):
        return [arg.name]
    return [name for item in arg for name in _names(item)] if isinstance(arg, tuple) else []
