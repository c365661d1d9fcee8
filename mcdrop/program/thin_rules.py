"""Which operations a thinned value may pass, and which layers may read or make one.

A value is thinned by leaving out dropped channels: elements of its axis 1, whole features or whole
planes of an image. An operation lets that pass if it treats every channel alone. Behind a site it
must also make zero of zero, as zero is what stands for a dropped channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.graph import Arg, Graph, Node, Ref
from mcdrop.program.ops import resolve

# Operations of each element alone that torch does not mark as such.
_POINTWISE = frozenset(
    f"aten.{name}.default"
    for name in ("alias", "contiguous", "detach", "hardswish", "log_sigmoid", "prelu")
)
# f(s x) = s f(x) for s > 0, as long as f(0) = 0: a factor may be applied behind them.
_HOMOGENEOUS = frozenset(
    f"aten.{name}"
    for name in (
        *("abs.default", "alias.default", "clone.default", "contiguous.default", "detach.default"),
        *("leaky_relu.default", "neg.default", "prelu.default", "relu.default"),
        *("div.Scalar", "div.Tensor", "mul.Scalar", "mul.Tensor"),
    )
)
# Those that may also read a weight: one element, or one for each channel.
_WITH_WEIGHTS = frozenset(["add", "div", "mul", "prelu", "sub"])
# Axes 0 and 1 stay as they are; by the rank of the operand.
_POOLS: Mapping[str, int] = {
    f"{name}{n}d": n + 2
    for name in ("max_pool", "avg_pool", "adaptive_avg_pool")
    for n in (1, 2, 3)
}
_REDUCTIONS = frozenset({"mean.dim", "sum.dim_IntList", "amax.default", "amin.default"})
_SQUEEZES = frozenset({"squeeze.dim", "squeeze.dims"})
_CONVOLUTIONS: Mapping[str, int] = {"conv1d": 3, "conv2d": 4, "conv3d": 5}
_GROUPS = 6  # position of a convolution's argument


@dataclass(frozen=True, slots=True)
class Passage:
    """How a node treats the channels of its operand.

    Attributes:
        operand: name of the value that goes in.
        keeps_zero: whether it makes zero of zero.
        homogeneous: whether a positive factor may be applied behind it instead of before.
        vectors: weights with an element for each channel, to be gathered.
        group: how many neighbours in axis 1 of the result come from one channel.
        trailing: for a reshape, sizes of the result from axis 2 on.
    """

    operand: str
    keeps_zero: bool
    homogeneous: bool
    vectors: tuple[str, ...] = ()
    group: int = 1
    trailing: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer or a convolution that mixes channels by weights that can be gathered."""

    node: Node
    operand: str
    weight: str
    bias: str | None
    convolution: bool


def layer(graph: Graph, node: Node, values: Mapping[str, Tensor]) -> Layer | str:
    """What a node is as a layer, or why it is none that can be thinned."""
    name, rank = op_name(node), 2 if node.op == "aten.linear.default" else None
    rank = _CONVOLUTIONS.get(name, rank)
    if rank is None:
        return f"{name} behind it is neither linear nor a convolution"
    operand, weight, bias = node.args[0], node.args[1], node.arg(2, "bias")
    assert isinstance(operand, Ref)
    held = (weight, *(() if bias is None else (bias,)))
    stored = all(isinstance(ref, Ref) and ref.name in graph.weights for ref in held)
    if not stored or not isinstance(weight, Ref) or values[weight.name].ndim != rank:
        return f"the weights of {name} behind it are computed, or no matrix"
    if list(node.refs()).count(operand.name) != 1:
        return "its value is read twice by the layer behind it"
    if operand.name not in values or values[operand.name].ndim != rank:
        return f"{name} behind it mixes another axis than the one that is dropped"
    if name in _CONVOLUTIONS and node.arg(_GROUPS, "groups", 1) != 1:
        return "the convolution behind it has groups"
    assert bias is None or isinstance(bias, Ref)
    return Layer(
        node, operand.name, weight.name, None if bias is None else bias.name, name in _CONVOLUTIONS
    )


def passage(graph: Graph, node: Node, values: Mapping[str, Tensor]) -> Passage | None:
    """How a node treats channels, or `None` where it mixes them or is not known."""
    if node.op in ("mcdrop.batch_norm", "getitem"):
        return _batch_norm(graph, node)
    if not node.op.startswith("aten."):
        return None
    if node.op in _POINTWISE or torch.Tag.pointwise in resolve(node.op).tags:  # type: ignore[attr-defined]
        return _elementwise(graph, node, values)
    return _channelwise(node, values)


def _batch_norm(graph: Graph, node: Node) -> Passage | None:
    """Batch normalisation returns a tuple of one; of other tuples nothing is known."""
    operand = node.args[0]
    assert isinstance(operand, Ref)
    plain = Passage(operand.name, keeps_zero=True, homogeneous=True)
    if node.op == "getitem":
        normed = operand.name in graph and graph[operand.name].op == "mcdrop.batch_norm"
        return plain if normed else None
    vectors = tuple(ref.name for ref in node.args[1:5] if isinstance(ref, Ref))
    if not all(vector in graph.weights for vector in vectors):
        return None
    return replace(plain, keeps_zero=False, homogeneous=False, vectors=vectors)


def _channelwise(node: Node, values: Mapping[str, Tensor]) -> Passage | None:
    """Operations on the axes behind the channels: pooling, means, padding, reshaping."""
    operand = next(node.refs(), None)
    if operand is None or operand not in values or values[operand].ndim < 2:
        return None
    name, rank = op_name(node), values[operand].ndim
    plain = Passage(operand, keeps_zero=True, homogeneous=True)
    if name == "reshape":
        return _reshape(node, plain, values)
    if name in ("pad", "constant_pad_nd"):
        return _padding(node, plain, rank)
    return plain if _POOLS.get(name) == rank or _trails(node, rank) else None


def _elementwise(graph: Graph, node: Node, values: Mapping[str, Tensor]) -> Passage | None:
    refs = list(node.refs())
    operands = [name for name in refs if name not in graph.weights]
    weights = [name for name in refs if name in graph.weights]
    simple = not any(isinstance(arg, tuple) for arg in node.args) and all(
        isinstance(value, bool | int | float | str | torch.memory_format | None)
        for _, value in node.kwargs
    )
    if len(operands) != 1 or operands[0] not in values or not simple:
        return None
    operand, name = operands[0], op_name(node)
    shape, prelu = values[operand].shape, name == "prelu"
    if len(shape) < 2 or (weights and name not in _WITH_WEIGHTS):
        return None
    if values[node.name].shape != shape or (prelu and node.args[0] != Ref(operand)):
        return None
    vectors = tuple(name for name in weights if values[name].numel() != 1)
    if not all(_per_channel(values[vector].shape, shape, prelu=prelu) for vector in vectors):
        return None
    keeps = _keeps_zero(node, operand, len(shape), values[operand].dtype)
    return Passage(operand, keeps, keeps and node.op in _HOMOGENEOUS, vectors)


def _keeps_zero(node: Node, operand: str, rank: int, dtype: torch.dtype) -> bool:
    """Evaluate the operation at zero; a weight stands for any number, of which one is tried."""

    def at(arg: Arg) -> Any:
        if isinstance(arg, Ref) and arg.name == operand:
            return torch.zeros((1,) * rank, dtype=dtype)
        return torch.full((1,), 0.7) if isinstance(arg, Ref) else arg

    try:
        with torch.no_grad():
            value = resolve(node.op)(*map(at, node.args), **dict(node.kwargs))
    except RuntimeError:  # it takes no single element: nothing is known
        return False
    return bool((value == 0).all())


def _per_channel(weight: torch.Size, operand: torch.Size, *, prelu: bool) -> bool:
    """Whether a weight holds one element for each channel of its operand."""
    if prelu:
        return tuple(weight) == (operand[1],)
    aligned = (1,) * (len(operand) - len(weight)) + tuple(weight)
    return aligned == tuple(s if axis == 1 else 1 for axis, s in enumerate(operand))


def _reshape(node: Node, plain: Passage, values: Mapping[str, Tensor]) -> Passage | None:
    before, after = values[plain.operand].shape, values[node.name].shape
    if len(after) < 2 or before[0] != after[0]:
        return None
    if before[1] == after[1]:
        sizes = node.args[1]
        assert isinstance(sizes, tuple)
        if not all(isinstance(size, int) and size >= 0 for size in sizes[2:]):
            return None  # a size that is only known when it runs
        return replace(plain, trailing=tuple(after[2:]))
    group = math.prod(before[2:])
    if len(after) != 2 or after[1] != before[1] * group:
        return None
    return replace(plain, group=group, trailing=())


def _padding(node: Node, plain: Passage, rank: int) -> Passage | None:
    """Padding of the axes behind the channels, with what is there or with a constant."""
    widths = node.args[1]
    assert isinstance(widths, tuple)
    if len(widths) > 2 * (rank - 2):
        return None
    value = node.arg(3 if node.op == "aten.pad.default" else 2, "value")
    zero = value is None or value == 0
    return replace(plain, keeps_zero=zero, homogeneous=zero)


def _trails(node: Node, rank: int) -> bool:
    """Whether a node reduces or removes axes, all of them behind the channels."""
    if _overload(node) not in _REDUCTIONS | _SQUEEZES:
        return False
    axes = node.arg(1, "dim", ())
    axes = axes if isinstance(axes, tuple) else (axes,)
    return bool(axes) and all(isinstance(a, int) and a % rank > 1 for a in axes)


def op_name(node: Node) -> str:
    """The operation's name without namespace and overload."""
    return node.op.split(".")[1] if "." in node.op else node.op


def _overload(node: Node) -> str:
    """The operation's name without namespace."""
    return node.op.partition(".")[2]
