"""Customary rates, and which sites they are about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from mcdrop.program.drawn import DRAWN
from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.places import Place
from mcdrop.program.randomness import SDPA
from mcdrop.program.site import Site

# Srivastava et al. 2014, appendix A.4: 0.2 for real-valued inputs, 0.5 (0.2 to 0.5) inside.
RATES: Mapping[Place, tuple[float, float]] = MappingProxyType(
    {"input": (0.1, 0.2), "hidden": (0.3, 0.5), "output": (0.0, 0.0)}
)
# Vaswani et al. 2017, section 5.4: 0.1 behind each sub-layer, and most transformers since.
IN_TRANSFORMERS = (0.1, 0.5)

# Noise whose rate is that of units dropped alone, of channels, or of a Gaussian that is equivalent.
# Not: rates that training finds (concrete, variational, adaptive, meta); blocks and importances
# (0.1 to 0.25 in their papers); alpha dropout, for which Klambauer et al. 2017 take 0.05 to 0.1.
_KINDS = ("dropout", "feature_dropout", "rnn", "bernoulli", "gaussian")
# Whole branches (0.1 to 0.5, by depth) and heads (0.1 to 0.2) are dropped by dropout of ones.
_APART = ("DropPath", "StochasticDepth", "HeadDropout")
_SOFTMAX = ("aten.softmax.int", "aten._softmax.default", "aten._safe_softmax.default")
_PRODUCTS = (
    "aten.bmm.default",
    "aten.matmul.default",
    "aten.baddbmm.default",
    "aten.einsum.default",
)
_RESHAPE = (
    "dropout mul div masked_fill view _unsafe_view reshape clone _to_copy transpose permute expand"
)
_SAME = (*(f"aten.{name}." for name in _RESHAPE.split()), DRAWN)


def advised(graph: Graph, site: Site, place: Place, layer: str) -> tuple[float, float] | None:
    """The customary range of a site's rate; `None` where there is none for its technique.

    Args:
        graph: the captured graph.
        site: one of its sites.
        place: where the site stands.
        layer: class of the module that it comes from.
    """
    if site.kind not in _KINDS or place == "weights" or layer in _APART:
        return None
    if site.p is None or math.prod(size or 2 for size in site.shape) == 1:  # a branch of each row
        return None
    if place != "output" and _is_attention(graph, graph[site.node]):
        return None
    return IN_TRANSFORMERS if place == "hidden" and attends(graph) else RATES[place]


def attends(graph: Graph) -> bool:
    """Whether there is attention in a captured graph: fused, or a product with a softmax."""
    if any(node.op == SDPA for node in graph.nodes):
        return True
    weights: set[str] = set()
    for node in graph.nodes:
        if node.op in _SOFTMAX or (_passes(node) and weights.intersection(node.refs())):
            weights.add(node.name)
        elif node.op in _PRODUCTS and weights.intersection(node.refs()):
            return True
    return False


def _is_attention(graph: Graph, node: Node) -> bool:
    """Whether what a node drops are the weights of an attention."""
    while _passes(node) and node.args and isinstance(node.args[0], Ref):
        if node.args[0].name not in graph:
            return False
        node = graph[node.args[0].name]
    return node.op in _SOFTMAX


def _passes(node: Node) -> bool:
    return node.op.startswith(_SAME)
