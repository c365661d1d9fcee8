"""Switching off masks that were written out by hand: `x * (torch.rand_like(x) < keep) / keep`.

Off, a comparison of uniform noise with a rate becomes the share of elements for which it holds.
That is a number, not a truth value, so the operations that read it become their expectations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from mcdrop.program.graph import Node, Ref
from mcdrop.program.site import Site

COMPARISONS = ("aten.lt.Scalar", "aten.le.Scalar", "aten.gt.Scalar", "aten.ge.Scalar")
FLOOR = "aten.floor.default"
_AND = ("aten.__and__.Tensor", "aten.bitwise_and.Tensor", "aten.logical_and.default")
_NOT = ("aten.logical_not.default", "aten.bitwise_not.default")
_WHERE = ("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
_SHAPING = (
    "aten.expand.default",
    "aten.permute.default",
    "aten.reshape.default",
    "aten.squeeze.dim",
    "aten.transpose.int",
    "aten.unsqueeze.default",
)
_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


class MeanMasks:
    """Rewrites the users of switched-off hand-written masks, node by node in order of execution.

    Args:
        thresholds: the sites to switch off, by the name of the node that compares.
    """

    def __init__(self, thresholds: Mapping[str, Site]) -> None:
        self._thresholds = thresholds
        self._means: set[str] = set()

    def rewrite(self, node: Node) -> list[Node]:
        """The node, or the nodes that compute its expectation; the last one stands for it."""
        if node.name in self._thresholds:
            return [self._mean(node)]
        read = [name for name in node.refs() if name in self._means]
        if not read:
            return [node]
        return self._expectation(node, read)

    def _mean(self, node: Node) -> Node:
        if node.op == FLOOR:  # floor(u + keep) is 1 with probability keep, and is a number already
            keep = 1.0 - (self._thresholds[node.name].p or 0.0)
            return Node(node.name, "aten.full_like.default", (node.args[0], keep))
        self._means.add(node.name)
        return Node(node.name, "aten.full_like.default", (node.args[0], probability_true(node)))

    def _expectation(self, node: Node, read: list[str]) -> list[Node]:
        mask = Ref(read[0])
        flipped = Node(f"{node.name}:not", "aten.rsub.Scalar", (mask, 1))
        to_float = node.op == "aten._to_copy.default" and node.kwarg("dtype") in _FLOATS
        if to_float or node.op.startswith("aten.mul."):
            return [node]
        if node.op in _SHAPING or node.op in _NOT:
            self._means.add(node.name)
            return [node if node.op in _SHAPING else replace(flipped, name=node.name)]
        if node.op == "aten.masked_fill.Scalar" and node.args[1] == mask and node.args[2] == 0:
            kept = Node(node.name, "aten.mul.Tensor", (node.args[0], Ref(flipped.name)))
            return [flipped, kept]
        if node.op in _WHERE and node.args[0] == mask:
            return [flipped, *_mixture(node, mask, Ref(flipped.name))]
        if node.op in _AND and len(set(read)) == 2:  # independent: the chances multiply
            self._means.add(node.name)
            return [replace(node, op="aten.mul.Tensor")]
        return _rounded(node, read)


def _rounded(node: Node, read: list[str]) -> list[Node]:
    """The node over the likelier truth value of each mask it reads."""
    truths = [
        Node(f"{node.name}:truth{i}", "aten.ge.Scalar", (Ref(name), 0.5))
        for i, name in enumerate(read)
    ]
    renamed = {name: truth.name for name, truth in zip(read, truths, strict=True)}
    return [*truths, node.map_refs(lambda name: Ref(renamed.get(name, name)))]


def _mixture(node: Node, mask: Ref, flipped: Ref) -> list[Node]:
    _, yes, no = node.args
    left = Node(f"{node.name}:yes", "aten.mul.Tensor", (mask, yes))
    right = Node(f"{node.name}:no", "aten.mul.Tensor", (flipped, no))
    return [left, right, Node(node.name, "aten.add.Tensor", (Ref(left.name), Ref(right.name)))]


def probability_true(node: Node) -> float:
    """Chance that a comparison of uniform noise with a number holds."""
    number = node.args[1]
    assert isinstance(number, int | float)
    rate = min(max(float(number), 0.0), 1.0)
    return 1.0 - rate if node.op in ("aten.gt.Scalar", "aten.ge.Scalar") else rate
