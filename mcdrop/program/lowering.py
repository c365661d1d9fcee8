"""From the captured graph, in which sites are ordinary random ops, to graphs that can be executed.

`deterministic` switches every site off. `stochastic` makes each enabled site read an explicit mask
input, so that nothing random is left; `split` cuts that into the trunk, which no mask reaches, and
the tail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from mcdrop.program.drawn import DRAWN
from mcdrop.program.graph import Arg, Graph, Node, Ref
from mcdrop.program.lower_rnn import lower_rnn, without_ones
from mcdrop.program.means import MeanMasks
from mcdrop.program.randomness import SDPA
from mcdrop.program.site import Site
from mcdrop.program.variational_rnn import VARIATIONAL_RNN

# What vmap cannot take, or takes slowly, and what stands in for it.
_VMAPPABLE: Mapping[str, str] = MappingProxyType(
    {
        "aten.view.default": "aten.reshape.default",  # vmapped values may have other strides
        "aten._unsafe_view.default": "aten.reshape.default",
        "aten.copy.default": "mcdrop.copy",
        "aten._native_batch_norm_legit_no_training.default": "mcdrop.batch_norm",
        "aten.index_put.default": "mcdrop.index_put",
        "aten._weight_norm.default": "mcdrop.weight_norm",
        "aten.slice_scatter.default": "mcdrop.slice_scatter",
    }
)
# A value is renamed rather than computed where a site is off.
Lowered = tuple[list[Node], str]


def deterministic(graph: Graph, sites: Sequence[Site]) -> Graph:
    """The graph with every site off: dropout is the identity, other noise takes its mean."""
    return _lower(graph, sites, frozenset())


def stochastic(graph: Graph, sites: Sequence[Site]) -> Graph:
    """The graph with a mask input for each enabled site, in the order of the sites."""
    return _lower(graph, sites, frozenset(site.index for site in sites if site.enabled))


def _lower(graph: Graph, sites: Sequence[Site], on: frozenset[int]) -> Graph:
    by_node: dict[str, list[Site]] = {}
    for site in sites:
        by_node.setdefault(site.node, []).append(site)
    means = MeanMasks(
        {s.threshold: s for s in sites if s.threshold is not None and s.index not in on}
    )
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    made: dict[str, Node] = {}
    for original in graph.nodes:
        node = original.map_refs(lambda name: Ref(renamed.get(name, name)))
        new: list[Node] = []
        if node.op == DRAWN:
            value = _told(node, by_node, on)
        elif node.op == VARIATIONAL_RNN:
            new, value = [without_ones(node, made)], node.name
        else:
            new, value = _lower_node(node, by_node.get(node.name, []), on, means)
        nodes.extend(new)
        made.update((one.name, one) for one in new)
        if value != node.name:
            renamed[node.name] = value
    masks = tuple(site.mask for site in sites if site.index in on)
    outputs = tuple((public, renamed.get(name, name)) for public, name in graph.outputs)
    return Graph((*graph.inputs, *masks), graph.weights, tuple(nodes), outputs).pruned()


def _told(node: Node, by_node: Mapping[str, list[Site]], on: frozenset[int]) -> str:
    """Which value stands for a drawn one: the noisy one, or its mean."""
    noisy, mean, noise = node.args[:3]
    assert isinstance(noisy, Ref)
    assert isinstance(mean, Ref)
    assert isinstance(noise, Ref)
    sampled = any(site.index in on for site in by_node.get(noise.name, []))
    return noisy.name if sampled else mean.name


def _lower_node(node: Node, sites: list[Site], on: frozenset[int], means: MeanMasks) -> Lowered:
    if node.op.startswith(("aten.lstm.", "aten.gru.", "aten.rnn_")):
        return lower_rnn(node, [site for site in sites if site.index in on]), node.name
    if node.op == SDPA:
        return [_attention(node, next((s for s in sites if s.index in on), None))], node.name
    node = replace(node, op=_VMAPPABLE.get(node.op, node.op))
    if not sites:
        rewritten = means.rewrite(node)
        return rewritten, rewritten[-1].name
    site = sites[0]
    if site.kind in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
        return _dropout(node, site, site.index in on)
    return _noise(node, site, site.index in on)


def layout(site: Site) -> tuple[Arg, ...]:
    """The trailing arguments by which a kernel lays a mask along its operand."""
    if site.layout is None:
        return (None, 1, False)
    return (site.layout.dim, site.layout.outer, site.layout.folded)


def _dropout(node: Node, site: Site, on: bool) -> Lowered:
    x = node.args[0]
    if not on:
        assert isinstance(x, Ref)
        return [], x.name
    suffix = "_features" if site.kind.startswith("feature") else ""
    if "alpha" in site.kind:
        args = (x, Ref(site.mask), site.p, *layout(site))
        return [Node(node.name, f"mcdrop.alpha{suffix}", args, path=node.path)], node.name
    args = (x, Ref(site.mask), *layout(site))
    return [Node(node.name, f"mcdrop.scale{suffix}", args, path=node.path)], node.name


def _attention(node: Node, site: Site | None) -> Node:
    query, key, value = node.args[:3]
    bias = node.arg(3, "attn_mask")
    causal = node.arg(5, "is_causal", False)
    factor, gqa = node.kwarg("scale"), node.kwarg("enable_gqa", False)
    if site is None:
        args: tuple[Arg, ...] = (query, key, value, bias, causal, factor, gqa)
        return Node(node.name, "mcdrop.folded_attention", args, path=node.path)
    args = (query, key, value, bias, Ref(site.mask), causal, factor, gqa, *layout(site))
    return Node(node.name, "mcdrop.attention", args, path=node.path)


@dataclass(frozen=True, slots=True)
class _NoiseForm:
    """`shift + factor * mask`, through `transform`; `mean` where the site is off."""

    shift: float
    factor: float
    mean: float
    transform: str = ""


def _noise(node: Node, site: Site, on: bool) -> Lowered:
    name = node.name
    like = Node(f"{name}:like", *_like(node), path=node.path)
    if node.op in ("aten.bernoulli.default", "aten.bernoulli.Tensor"):
        probability = node.args[0] if node.op.endswith("default") else node.args[1]
        assert isinstance(probability, Ref)
        if not on:
            return [], probability.name
        args: tuple[Arg, ...] = (probability, Ref(site.mask), *layout(site))
        return [Node(name, "mcdrop.bernoulli", args, path=node.path)], name
    form = _form(node)
    if not on:
        args = (Ref(like.name), form.mean)
        return [like, Node(name, "aten.full_like.default", args, path=node.path)], name
    args = (Ref(like.name), Ref(site.mask), form.shift, form.factor, form.transform, *layout(site))
    return [like, Node(name, "mcdrop.noise", args, path=node.path)], name


def _like(node: Node) -> tuple[str, tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
    """A call that makes a tensor of the noise's shape, type and device."""
    if node.op in ("aten.rand.default", "aten.randn.default"):
        return "aten.zeros.default", node.args[:1], node.kwargs
    kwargs = node.kwargs if node.op.endswith("_like.default") else ()
    return "aten.zeros_like.default", node.args[:1], kwargs


def _form(node: Node) -> _NoiseForm:
    op = node.op
    if op.startswith(("aten.rand.", "aten.rand_like.")):
        return _NoiseForm(0.0, 1.0, 0.5)
    if op.startswith(("aten.randn.", "aten.randn_like.")):
        return _NoiseForm(0.0, 1.0, 0.0)
    if op == "aten.bernoulli.p":
        return _NoiseForm(0.0, 1.0, _number(node, 1, "p", 0.5))
    if op == "aten.uniform.default":
        low, high = _number(node, 1, "from", 0.0), _number(node, 2, "to", 1.0)
        return _NoiseForm(low, high - low, (low + high) / 2)
    if op == "aten.exponential.default":
        rate = _number(node, 1, "lambd", 1.0)
        return _NoiseForm(0.0, 1.0 / rate, 1.0 / rate, "exponential")
    assert op == "aten.normal_functional.default", op
    mean = _number(node, 1, "mean", 0.0)
    return _NoiseForm(mean, _number(node, 2, "std", 1.0), mean)


def _number(node: Node, position: int, name: str, default: float) -> float:
    value = node.arg(position, name, default)
    assert isinstance(value, int | float)
    return float(value)


@dataclass(frozen=True, slots=True)
class Split:
    """A stochastic graph cut in two.

    Attributes:
        trunk: from the program's inputs to the boundary; no mask reaches it.
        tail: from boundary values and masks to the outputs.
        boundary: names of the values that cross.
    """

    trunk: Graph
    tail: Graph
    boundary: tuple[str, ...]


def split(graph: Graph, masks: Iterable[str]) -> Split:
    """Cut a stochastic graph where its masks begin to matter."""
    masks = tuple(masks)
    reached = graph.reached_from(masks)
    tail_nodes = tuple(node for node in graph.nodes if node.name in reached)
    needed = dict.fromkeys(name for node in tail_nodes for name in node.refs())
    needed.update(dict.fromkeys(name for _, name in graph.outputs))
    weights = tuple(name for name in graph.weights if name in needed)
    boundary = tuple(name for name in needed if name not in reached and name not in weights)
    trunk = replace(
        graph,
        inputs=tuple(name for name in graph.inputs if name not in masks),
        nodes=tuple(node for node in graph.nodes if node.name not in reached),
        outputs=tuple((name, name) for name in boundary),
    ).pruned()
    tail = Graph((*boundary, *masks), weights, tail_nodes, graph.outputs)
    return Split(trunk, tail, boundary)
