"""The network under a mask is a smaller network: a pass that makes the tail compute just that.

Where all rows share a mask, a site between two layers drops whole columns of the values between
them. The pass puts weights gathered for each sample in the place of the site's mask: the layer
before no longer makes what is dropped, and the layer behind no longer reads it. Where no layer
comes before, the units are taken from the whole value, or, if that would cost more than it saves,
zero weighs those that are dropped. Other sites keep their masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from torch import Tensor

from mcdrop.program.graph import Arg, Graph, Node, Ref
from mcdrop.program.leading import samples_can_lead
from mcdrop.program.program import Program
from mcdrop.program.site import Site
from mcdrop.program.tail_values import tail_values
from mcdrop.program.thin_paths import Path, find_path
from mcdrop.program.thin_rules import Passage

# To take units costs a copy of them for each sample, and saves as many products as there are
# outputs for each one dropped: below so many, zero weights cost less.
COPY_COST = 64.0


@dataclass(frozen=True, slots=True)
class Gathered:
    """An input of the thinned tail: a weight, of which each sample reads its own part.

    Attributes:
        name: of the input.
        weight: name of the weight.
        form: `"matrix"`, to be laid out `[I, O]`; `"kernel"` of a convolution, `[O, I, ...]`;
            `"vector"`, with one element for each output.
        outputs: mask that tells which outputs are kept; `None` for all.
        inputs: mask that tells which inputs are kept; `None` for all. Where samples keep fewer
            than others, the rest is to be zero.
        group: how many neighbouring inputs belong to one element of that mask.
        scale: factor to multiply by, moved here from the site before.
    """

    name: str
    weight: str
    form: Literal["matrix", "kernel", "vector"]
    outputs: str | None = None
    inputs: str | None = None
    group: int = 1
    scale: float = 1.0

    def shape(self, weight: Sequence[int], kept: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of what one sample reads.

        Args:
            weight: shape of the weight.
            kept: how many units each mask keeps.
        """
        outputs = kept[self.outputs] if self.outputs else weight[0]
        if self.form == "vector":
            return tuple(1 if size == 1 else outputs for size in weight)
        inputs = kept[self.inputs] * self.group if self.inputs else weight[1]
        return (inputs, outputs) if self.form == "matrix" else (outputs, inputs, *weight[2:])


@dataclass(frozen=True, slots=True)
class Thinning:
    """A tail in which some masks have become gathered weights.

    Attributes:
        graph: the tail; it still reads the masks of the other sites.
        gathered: its inputs that are gathered weights.
        taken: its inputs that are numbers of kept units, and the mask that each comes from.
        zeroed: masks whose dropped units are not left out, but weighed by zero.
        thinned: masks of the thinned sites.
        reasons: why each of the other sites is not thinned, by its name.
        leads: whether the tail takes all samples at once, with `LEADING_KERNELS`.
    """

    graph: Graph
    gathered: tuple[Gathered, ...]
    taken: Mapping[str, str]
    zeroed: frozenset[str]
    thinned: tuple[str, ...]
    reasons: Mapping[str, str]
    leads: bool


def thin_tail(program: Program, copy_cost: float = COPY_COST) -> Thinning:
    """Thin a program's tail; see `thin`."""
    return thin(program.tail, program.active, tail_values(program), copy_cost)


def thin(
    tail: Graph,
    sites: Sequence[Site],
    values: Mapping[str, Tensor],
    copy_cost: float = COPY_COST,
) -> Thinning:
    """Thin a lowered tail.

    Args:
        tail: reads the masks of `sites`.
        sites: the enabled sites.
        values: a tensor (on the meta device) of the shape and type of each of the tail's values,
            masks and weights.
        copy_cost: what it costs to copy a unit, in products.

    Returns:
        The same tail where nothing can be thinned.
    """
    tail = _without_copies(tail, values)
    found = {site: find_path(tail, site, values) for site in sites}
    paths = [path for path in found.values() if isinstance(path, Path)]
    whole = [path for path in paths if path.source is None]
    zeroed = [path for path in whole if _cheaper_zeroed(path, values, copy_cost)]
    draft = _Draft(tail, paths, [path for path in whole if path not in zeroed])
    read = {name for node in draft.nodes for name in node.refs()}
    gone = {site.mask for site in sites} - read
    graph = Graph(
        inputs=(
            *(n for n in tail.inputs if n not in gone),
            *draft.taken,
            *(part.name for part in draft.gathered),
        ),
        weights=tail.weights,
        nodes=_with_activations(draft.nodes, draft.outputs),
        outputs=draft.outputs,
    ).pruned()
    masks = {site.mask for site in sites}
    shared = {
        n: values[n] for n in (*graph.inputs, *graph.weights) if n in values and n not in masks
    }
    return Thinning(
        graph=graph,
        gathered=tuple(draft.gathered),
        taken=MappingProxyType(draft.taken),
        zeroed=frozenset(path.site.mask for path in zeroed),
        thinned=tuple(path.site.mask for path in paths),
        reasons=MappingProxyType(
            {site.name: path for site, path in found.items() if isinstance(path, str)}
        ),
        leads=samples_can_lead(graph, shared),
    )


class _Draft:
    """The nodes and inputs of a thinned tail, written node by node."""

    def __init__(self, tail: Graph, paths: Sequence[Path], takers: Sequence[Path]) -> None:
        self.nodes: list[Node] = []
        self.gathered: list[Gathered] = []
        self.taken: dict[str, str] = {}
        self._tail = tail
        self._renamed: dict[str, str] = {}
        self._takers = {path.taker.name: path for path in takers}
        self._sites = {path.node.name: path for path in paths}
        self._into = {path.layer.node.name: path for path in paths}
        self._out_of = {path.source.node.name: path for path in paths if path.source is not None}
        self._steps = {
            node.name: (step, path.site)
            for path in paths
            for node, step in (*path.behind, *path.ahead)
        }
        for node in tail.nodes:
            self._add(node)
        self.outputs = tuple(
            (public, self._renamed.get(name, name)) for public, name in tail.outputs
        )

    def _add(self, node: Node) -> None:
        name, renamed = node.name, self._renamed
        if name in self._takers:
            renamed = {**renamed, **self._take(self._takers[name], node)}
        node = node.map_refs(lambda ref: Ref(renamed.get(ref, ref)))
        if name in self._sites:
            self._leave_out(node, self._sites[name])
        elif name in self._into or name in self._out_of:
            self._gather_layer(node, self._into.get(name), self._out_of.get(name))
        elif name in self._steps:
            self._gather_step(node, *self._steps[name])
        else:
            self.nodes.append(node)

    def _take(self, path: Path, node: Node) -> dict[str, str]:
        """Choose the units of a whole value, for one of its readers."""
        kept, taken = f"kept:{path.site.index}", f"taken:{path.site.index}"
        whole = self._renamed.get(path.value, path.value)
        held = path.value in self._tail.inputs
        self.taken[kept] = path.site.mask
        self.nodes.append(Node(taken, "mcdrop.take", (Ref(whole), Ref(kept), held), path=node.path))
        return {path.value: taken}

    def _leave_out(self, node: Node, path: Path) -> None:
        """A thinned site is nothing, or its factor alone."""
        operand = node.args[0]
        assert isinstance(operand, Ref)
        if path.folds:
            self._renamed[node.name] = operand.name
        else:
            args: tuple[Arg, ...] = (operand, path.site.law.scale)
            self.nodes.append(replace(node, op="aten.mul.Tensor", args=args))

    def _gather_layer(self, node: Node, into: Path | None, out_of: Path | None) -> None:
        layer = into.layer if into is not None else None
        layer = out_of.source if out_of is not None else layer
        assert layer is not None
        outputs = None if out_of is None else out_of.site.mask
        weight = Gathered(
            f"{node.name}:weight",
            layer.weight,
            "kernel" if layer.convolution else "matrix",
            outputs,
            None if into is None else into.site.mask,
            1 if into is None else into.group,
            into.site.law.scale if into is not None and into.folds else 1.0,
        )
        self.gathered.append(weight)
        bias = None if layer.bias is None else Ref(layer.bias)
        if layer.bias is not None and outputs is not None:
            bias = Ref(f"{node.name}:bias")
            self.gathered.append(Gathered(bias.name, layer.bias, "vector", outputs))
        args: tuple[Arg, ...] = (node.args[0], Ref(weight.name), bias)
        if not layer.convolution:
            self.nodes.append(Node(node.name, "mcdrop.thin_linear", (*args, ""), path=node.path))
            return
        window = (node.arg(3, "stride", 1), node.arg(4, "padding", 0), node.arg(5, "dilation", 1))
        self.nodes.append(Node(node.name, "mcdrop.thin_conv", (*args, *window, ""), path=node.path))

    def _gather_step(self, node: Node, step: Passage, site: Site) -> None:
        """An operation of each channel, with its weights gathered and its sizes left open."""
        vectors = {weight: f"{node.name}:{weight}" for weight in step.vectors}
        for weight, name in vectors.items():
            self.gathered.append(Gathered(name, weight, "vector", site.mask))
        node = node.map_refs(lambda ref: Ref(vectors.get(ref, ref)))
        if step.trailing is not None:
            node = Node(node.name, "mcdrop.regroup", (node.args[0], *step.trailing), path=node.path)
        self.nodes.append(node)


def _cheaper_zeroed(path: Path, values: Mapping[str, Tensor], copy_cost: float) -> bool:
    """Whether to read dropped units with zero weights costs less than to copy the others."""
    if path.behind or path.ahead or path.layer.convolution:
        return False
    return path.site.law.p * values[path.layer.weight].shape[0] < copy_cost


def _without_copies(tail: Graph, values: Mapping[str, Tensor]) -> Graph:
    """The tail without copies that change neither shape nor type: in-place dropout makes them."""
    renamed: dict[str, str] = {}
    nodes = []
    for original in tail.nodes:
        node = original.map_refs(lambda name: Ref(renamed.get(name, name)))
        if node.op == "mcdrop.copy":
            target, source = node.refs()
            a, b = values[target], values[source]
            if a.shape == b.shape and a.dtype == b.dtype:
                renamed[node.name] = source
                continue
        nodes.append(node)
    outputs = tuple((public, renamed.get(name, name)) for public, name in tail.outputs)
    return replace(tail, nodes=tuple(nodes), outputs=outputs)


def _with_activations(
    nodes: Sequence[Node], outputs: Sequence[tuple[str, str]]
) -> tuple[Node, ...]:
    """Let layers apply the ReLU behind them, on what is still in the cache."""
    graph = Graph((), (), tuple(nodes), tuple(outputs))
    public = {name for _, name in outputs}
    fused: dict[str, Node] = {}
    for node in nodes:
        operand = node.args[0] if node.op == "aten.relu.default" else None
        if not isinstance(operand, Ref) or operand.name not in graph or operand.name in public:
            continue
        layer = graph[operand.name]
        if layer.op.startswith("mcdrop.thin_") and len(graph.users(layer.name)) == 1:
            fused[layer.name] = replace(layer, name=node.name, args=(*layer.args[:-1], "relu"))
    gone = {node.name for node in fused.values()}
    return tuple(fused.get(node.name, node) for node in nodes if node.name not in gone)
