"""Where in a network a site stands: at its input, inside, at its output, or on its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from mcdrop.program.drawn import DRAWN
from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.site import Site
from mcdrop.program.variational_rnn import MASKS, VARIATIONAL_RNN

Place = Literal["input", "hidden", "output", "weights"]

_EMBEDDINGS = ("embedding", "embedding_bag")
_RNNS = ("lstm", "gru", "rnn_tanh", "rnn_relu", VARIATIONAL_RNN)
_MIX = """
linear addmm mm bmm matmul mv addmv baddbmm addbmm bilinear einsum dot tensordot
conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d
"""
_NORMALISE = """
batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm group_norm
native_group_norm instance_norm rms_norm prelu
"""
# Of what these read only the size goes into their value.
_SIZE = """
sym_size sym_numel zeros_like ones_like full_like rand_like randn_like new_zeros new_ones
new_full uniform normal_functional exponential
"""
_MIXING = frozenset(_MIX.split())
_NORMS = frozenset(_NORMALISE.split())
_SIZES_ONLY = frozenset(_SIZE.split())


def places(graph: Graph, sites: Sequence[Site]) -> tuple[Place, ...]:
    """The place of each site of a captured graph, in the order of the sites.

    - `"weights"`: what is dropped are weights, before a layer reads them (DropConnect).
    - `"input"`: it acts on the model's input, or on what no layer with weights has touched yet.
      Looking words up in a table, normalisation and elementwise arithmetic do not count as layers
      here: dropout on embeddings is dropout of the input (Gal & Ghahramani 2016).
    - `"output"`: nothing learned, normalisation included, follows on any way to an output.
    - `"hidden"`: every other one, those between the layers of a recurrent stack and those on its
      state from step to step among them.

    A mask that is made apart (of ones, or of noise compared with a rate) stands where it first
    meets a value that depends on the model's input.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mcdrop.capture import capture
        >>> net = nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        >>> program = capture(net, torch.zeros(1, 2))
        >>> places(program.graph, program.sites)
        ('input', 'hidden')
    """
    flow = _flow(graph)
    return tuple(_place(graph, flow, site) for site in sites)


def met(graph: Graph, site: Site) -> tuple[str, ...]:
    """Values that depend on the model's input and that a site's noise first meets."""
    flow = _flow(graph)
    found = [
        # of a recurrence's own state no value lies here; its rows lie as those of the input do
        name if name != node else _input(graph[node])
        for node, names in _meetings(graph, flow, site).items()
        for name in names or _data(graph[node].refs(), flow)
    ]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Flow:
    """Names of values.

    Attributes:
        data: what depends on the model's inputs by more than their sizes.
        touched: those of them that a layer with weights has been over.
        layers: nodes in which data meets weights to be mixed by them.
        learned: those, and normalisations.
    """

    data: frozenset[str]
    touched: frozenset[str]
    layers: frozenset[str]
    learned: frozenset[str]


def _flow(graph: Graph) -> _Flow:
    data, weighted, touched = set(graph.inputs), set(graph.weights), set[str]()
    layers, learned = set[str](), set[str]()
    for node in graph.nodes:
        name, read = _operation(node), set(node.refs())
        if name in _SIZES_ONLY or node.op == "aten.bernoulli.p":
            continue
        if not read & data:
            if read & weighted:
                weighted.add(node.name)
            continue
        data.add(node.name)
        if name in _MIXING or name in _RNNS or name in _EMBEDDINGS:
            if read & weighted:
                layers.add(node.name)
        elif name in _NORMS and read & weighted:
            learned.add(node.name)
        if read & touched or (node.name in layers and name not in _EMBEDDINGS):
            touched.add(node.name)
    return _Flow(*map(frozenset, (data, touched, layers, learned | layers)))


def _operation(node: Node) -> str:
    return node.op.split(".")[1] if node.op.startswith("aten.") else node.op


def _place(graph: Graph, flow: _Flow, site: Site) -> Place:
    if site.kind == "rnn":
        return "hidden"
    meetings = _meetings(graph, flow, site)
    if any(not met for met in meetings.values()):
        return "weights"
    acted_on = {name for operands in meetings.values() for name in operands}
    if acted_on and not acted_on & flow.touched:
        return "input"
    behind = graph.reached_from(meetings or [site.node])
    return "hidden" if behind & flow.learned else "output"


def _meetings(graph: Graph, flow: _Flow, site: Site) -> Mapping[str, tuple[str, ...]]:
    """Nodes in which a site's noise first meets data, each with the data that it acts on there.

    That is none where noise has become weights, by which a layer mixes data.
    """
    told = _told(graph, site)
    if told is not None:
        node, mean = told
        if mean in flow.data:
            return {node.name: (mean,)}
    elif site.node in flow.data:
        return {site.node: _data(graph[site.node].refs(), flow)}
    noise = {site.node if told is None else told[0].name}
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if not any(name in noise for name in node.refs()):
            continue
        if node.name in flow.data:
            found[node.name] = _acted_on(node, noise, flow)
        else:
            noise.add(node.name)
    return found


def _acted_on(node: Node, noise: AbstractSet[str], flow: _Flow) -> tuple[str, ...]:
    if node.op != VARIATIONAL_RNN:
        return () if node.name in flow.layers else _data(node.refs(), flow)
    of_input, of_state = (node.args[index] for index in MASKS)
    if isinstance(of_input, Ref) and of_input.name in noise:
        return _data((_input(node),), flow)
    # the state that it acts on has no name: the layer's own, of the step before
    return (node.name,) if isinstance(of_state, Ref) and of_state.name in noise else ()


def _input(recurrence: Node) -> str:
    x = recurrence.args[1]
    assert isinstance(x, Ref)
    return x.name


def _data(names: Iterable[str], flow: _Flow) -> tuple[str, ...]:
    return tuple(name for name in names if name in flow.data)


def _told(graph: Graph, site: Site) -> tuple[Node, str] | None:
    """Where a layer says what it drew, and the value that it would have there without noise."""
    for node in graph.nodes:
        if node.op == DRAWN and node.args[2] == Ref(site.node):
            mean = node.args[1]
            assert isinstance(mean, Ref)
            return node, mean.name
    return None
