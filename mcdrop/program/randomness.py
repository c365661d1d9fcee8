"""Which nodes of a captured graph are random, and by what law."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from mcdrop.program.drawn import DRAWN
from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.means import COMPARISONS, FLOOR, probability_true
from mcdrop.program.ops import is_random
from mcdrop.program.site import Kind, Law, Site

SDPA = "aten.scaled_dot_product_attention.default"
_DROPOUTS: Mapping[str, Kind] = MappingProxyType(
    {
        "aten.dropout.default": "dropout",
        "aten.feature_dropout.default": "feature_dropout",
        "aten.alpha_dropout.default": "alpha_dropout",
        "aten.feature_alpha_dropout.default": "feature_alpha_dropout",
    }
)
_NOISE: Mapping[str, Kind] = MappingProxyType(
    {
        "aten.rand.default": "uniform",
        "aten.rand_like.default": "uniform",
        "aten.uniform.default": "uniform",
        "aten.randn.default": "normal",
        "aten.randn_like.default": "normal",
        "aten.normal_functional.default": "normal",
        "aten.exponential.default": "exponential",
        "aten.bernoulli.p": "bernoulli",
        "aten.bernoulli.default": "bernoulli",
        "aten.bernoulli.Tensor": "bernoulli",
    }
)
_TELLING = (
    "aten.rand.default",
    "aten.rand_like.default",
    "aten.randn.default",
    "aten.randn_like.default",
)
_RNN = ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
_INVERTING = ("aten.masked_fill", "aten.logical_not", "aten.bitwise_not")
_UNIFORM = Law("uniform")


class UnsupportedRandomnessError(Exception):
    """A node draws random numbers in a way that cannot be sampled from a mask."""


@dataclass(frozen=True, slots=True)
class Found:
    """A random node, before it has a name, a shape and a place for its rows."""

    node: Node
    kind: Kind
    p: float | None
    law: Law
    layer: int = 0
    threshold: str | None = None

    def describes(self, site: Site) -> bool:
        """Whether a site says of its node what is found in the graph."""
        mine = (self.node.name, self.kind, self.p, self.law, self.layer, self.threshold)
        theirs = (site.node, site.kind, site.p, site.law, site.layer, site.threshold)
        return mine == theirs


def find(graph: Graph) -> list[Found]:
    """Every random node of a captured graph, in order of execution.

    Raises:
        UnsupportedRandomnessError: a node is random in a way that cannot be sampled.
    """
    return [found for node in graph.nodes for found in _classify(graph, node)]


def _classify(graph: Graph, node: Node) -> Iterable[Found]:
    if node.op in _DROPOUTS:
        yield _dropout(node)
    elif node.op == SDPA:
        p = _number(node.arg(4, "dropout_p", 0.0))
        if p > 0:
            yield Found(node, "attention", p, _kept(p))
    elif node.op in _RNN:
        p, train, layers = _number(node.args[5]), node.args[6], node.args[4]
        assert isinstance(layers, int)
        if train and p > 0:
            for layer in range(layers - 1):
                yield Found(node, "rnn", p, _kept(p), layer)
    elif node.op in _NOISE:
        yield _noise(graph, node)
    elif is_random(node.op):
        raise UnsupportedRandomnessError(
            f"{node.op} (in {node.path or 'the forward'!r}) draws random numbers in a way that "
            "cannot be sampled from a mask; use dropout, rand, randn, bernoulli, uniform_, normal_ "
            "or exponential_"
        )


def _dropout(node: Node) -> Found:
    kind, p = _DROPOUTS[node.op], _number(node.args[1])
    return Found(node, kind, p, Law("bernoulli", p) if "alpha" in kind else _kept(p))


def _kept(p: float) -> Law:
    return Law("bernoulli", p, 0.0 if p >= 1.0 else 1.0 / (1.0 - p))


def _noise(graph: Graph, node: Node) -> Found:
    kind = _NOISE[node.op]
    if (told := _told(graph, node)) is not None:
        law = Law("normal") if kind == "normal" else _UNIFORM
        return Found(node, *told, law)
    if node.op == "aten.bernoulli.p":
        p = 1.0 - _number(node.arg(1, "p", 0.5))
        return Found(node, kind, p, Law("bernoulli", p))
    if kind == "normal":
        return Found(node, kind, None, Law("normal"))
    if kind == "uniform" and _is_unit(node):
        threshold = _threshold(graph, node)
        if threshold is not None:
            return Found(node, "bernoulli", threshold[1], _UNIFORM, threshold=threshold[0])
    return Found(node, kind, None, _UNIFORM)


def _told(graph: Graph, node: Node) -> tuple[Kind, float | None] | None:
    """What the layer of a noise says that it is."""
    for user in graph.users(node.name):
        if user.op == DRAWN and user.args[2] == Ref(node.name):
            if node.op not in _TELLING:
                raise UnsupportedRandomnessError(
                    f"mcdrop.drawn takes rand, rand_like, randn or randn_like; got {node.op}"
                )
            kind, p = user.args[3], user.arg(4, "p")
            return cast("Kind", kind), None if p is None else _number(p)
    return None


def _is_unit(node: Node) -> bool:
    """Whether uniform noise is on [0, 1)."""
    if node.op != "aten.uniform.default":
        return True
    return node.arg(1, "from", 0.0) == 0.0 and node.arg(2, "to", 1.0) == 1.0


def _threshold(graph: Graph, node: Node) -> tuple[str, float] | None:
    """The comparison that makes a mask of uniform noise, and its rate of dropping."""
    users = graph.users(node.name)
    if len(users) != 1:
        return None
    user = users[0]
    if user.op in COMPARISONS and user.args[0] == Ref(node.name):
        true = probability_true(user)
        drops = any(reader.op.startswith(_INVERTING) for reader in graph.users(user.name))
        return user.name, true if drops else 1.0 - true
    if user.op == "aten.add.Tensor" and not user.kwargs:
        constant = [arg for arg in user.args if isinstance(arg, int | float)]
        floors = graph.users(user.name)
        if constant and len(floors) == 1 and floors[0].op == FLOOR and 0 <= constant[0] <= 1:
            return floors[0].name, 1.0 - float(constant[0])
    return None


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
