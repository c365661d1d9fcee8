"""Recurrent nodes: split at the inter-layer dropout, with the mask between the layers.

Those of the variational layers are one for each layer as they come; theirs are the masks that are
off, which are to be none, so that the layer is as fast as one without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mcdrop.program.graph import Arg, Node, Ref
from mcdrop.program.site import Site
from mcdrop.program.variational_rnn import MASKS


def lower_rnn(node: Node, sites: Sequence[Site]) -> list[Node]:
    """Nodes that compute `aten.lstm.input`, `aten.gru.input`, … without randomness of their own.

    Args:
        node: `(input, state, params, has_biases, layers, dropout, train, bidirectional,
            batch_first)`.
        sites: the enabled sites of this node, one for each layer whose output is dropped.

    Returns:
        Nodes, the last of which has the name of `node` and the same tuple of outputs.
    """
    mode = node.op.split(".")[1]
    x, state, params, _, layers, _, _, bidirectional, batch_first = node.args
    states = state if isinstance(state, tuple) else (state,)
    assert isinstance(params, tuple)
    assert isinstance(layers, int)
    nodes: list[Node] = []

    def emit(label: str, op: str, *args: Arg) -> Ref:
        nodes.append(Node(f"{node.name}:{label}", op, args, path=node.path))
        return Ref(nodes[-1].name)

    if batch_first:
        x = emit("time_first", "aten.transpose.int", x, 0, 1)
    dropped = {site.layer: site for site in sites}
    runs = _runs(layers, sorted(dropped))
    directions = 2 if bidirectional else 1
    width = len(params) // layers
    finals: list[list[Ref]] = [[] for _ in states]
    for first, last in runs:
        label = f"layers{first}"
        part = [
            s
            if len(runs) == 1
            else emit(
                f"{label}:s{i}", "aten.slice.Tensor", s, 0, first * directions, last * directions
            )
            for i, s in enumerate(states)
        ]
        weights = params[first * width : last * width]
        args = (mode, x, tuple(part), weights, last - first, bidirectional)
        out = emit(label, "mcdrop.rnn", *args)
        x = emit(f"{label}:out", "getitem", out, 0)
        for i, final in enumerate(finals):
            final.append(emit(f"{label}:f{i}", "getitem", out, i + 1))
        site = dropped.get(last - 1)
        if site is not None:
            where = site.layout
            layout = (None, 1, False) if where is None else (1, where.outer, where.folded)
            x = emit(f"{label}:drop", "mcdrop.scale", x, Ref(site.mask), *layout)
    if batch_first:
        x = emit("batch_first", "aten.transpose.int", x, 0, 1)
    joined = [
        final[0] if len(final) == 1 else emit(f"final{i}", "aten.cat.default", tuple(final), 0)
        for i, final in enumerate(finals)
    ]
    nodes.append(Node(node.name, "mcdrop.tuple", (x, *joined), path=node.path))
    return nodes


def _runs(layers: int, dropped: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of layers without a mask between them: half-open ranges."""
    ends = [layer + 1 for layer in dropped if layer + 1 < layers]
    return list(zip([0, *ends], [*ends, layers], strict=True))


def without_ones(node: Node, made: Mapping[str, Node]) -> Node:
    """A variational recurrent node, with None for a mask that is ones because its site is off.

    Args:
        node: `(mode, x, state, input_mask, recurrent_mask, weights, lengths, reverse)`.
        made: the lowered nodes before it, by name.
    """
    args = list(node.args)
    for index in MASKS:
        mask = args[index]
        known = made.get(mask.name) if isinstance(mask, Ref) else None
        if known is not None and known.op == "aten.new_ones.default":
            args[index] = None
    return replace(node, args=tuple(args))
