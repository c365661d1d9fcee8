"""The ways of values that can be thinned: from a layer, through a site, to the next layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.site import Site
from mcdrop.program.thin_rules import Layer, Passage, layer, op_name, passage

Steps = tuple[tuple[Node, Passage], ...]


@dataclass(frozen=True, slots=True)
class Path:
    """The way of a thinned value.

    Attributes:
        site: whose dropped units are left out.
        source: the layer that makes the value; `None` where units are taken from a whole one.
        value: name of the value that leaves the source, or that units are taken from.
        behind: nodes between that and the site, in order.
        node: the site's node.
        ahead: nodes between the site and the layer, in order.
        layer: the layer that reads it.
    """

    site: Site
    source: Layer | None
    value: str
    behind: Steps
    node: Node
    ahead: Steps
    layer: Layer

    @property
    def taker(self) -> Node:
        """The node that reads the whole value, where there is no source."""
        return self.behind[0][0] if self.behind else self.node

    @property
    def folds(self) -> bool:
        """Whether the site's factor can be moved into the layer's weights."""
        return all(step.homogeneous for _, step in self.ahead)

    @property
    def group(self) -> int:
        """How many inputs of the layer belong to one unit."""
        return max([1, *(step.group for _, step in self.ahead)])


def find_path(tail: Graph, site: Site, values: Mapping[str, Tensor]) -> Path | str:
    """The way of a site's value, or in words why it cannot be thinned.

    Args:
        tail: a lowered tail.
        site: one of its sites.
        values: a tensor of the shape of each of the tail's values, masks and weights.
    """
    readers = tail.users(site.mask)
    if not readers:
        return "it does not reach the output"
    reason = _unfit(site, values[site.mask])
    if reason is not None:
        return reason
    (node,) = readers
    ahead = _ahead(tail, node, values)
    if isinstance(ahead, str):
        return ahead
    steps, reader = ahead
    operand = node.args[0]
    assert isinstance(operand, Ref)
    source, value, behind = _behind(tail, operand.name, values)
    return Path(site, source, value, behind, node, steps, reader)


def _unfit(site: Site, mask: Tensor) -> str | None:
    if site.kind not in ("dropout", "feature_dropout"):
        return f"{site.kind.replace('_', ' ')} noise is no dropping of units between layers"
    if site.layout is None or site.layout.dim != 0 or site.layout.folded:
        return "its rows are not alone in axis 0"
    if mask.ndim < 3:  # [R, 1, C, ...]
        return "its value has no axis of units"
    if any(size != 1 for size in mask.shape[3:]) or None in site.shape[1:]:
        return "its mask differs between the positions (tokens, pixels) of a unit"
    return None


def _ahead(tail: Graph, node: Node, values: Mapping[str, Tensor]) -> tuple[Steps, Layer] | str:
    """What lies between a site and the layer that reads it, or what is in the way."""
    steps: list[tuple[Node, Passage]] = []
    while True:
        if any(name == node.name for _, name in tail.outputs):
            return "its value is an output of the model"
        readers = tail.users(node.name)
        if len(readers) != 1:
            return "its value is also read elsewhere"
        node = readers[0]
        if node.op.startswith("mcdrop.scale"):
            return "another site comes before the next layer"
        step = passage(tail, node, values)
        grouped = any(before.group > 1 for _, before in steps)
        if step is None or (grouped and (step.vectors or step.group > 1)):
            reader = layer(tail, node, values)
            if isinstance(reader, Layer) and reader.convolution and grouped:
                return "the convolution behind it reads what was flattened"
            return reader if isinstance(reader, str) else (tuple(steps), reader)
        if not step.keeps_zero:
            return f"{op_name(node)} behind it does not keep zero at zero"
        steps.append((node, step))


def _behind(
    tail: Graph, value: str, values: Mapping[str, Tensor]
) -> tuple[Layer | None, str, Steps]:
    """How far back from a site its value can be thinned: to a layer, or to a whole value."""
    outputs = {name for _, name in tail.outputs}
    steps: list[tuple[Node, Passage]] = []
    source = None
    while value in tail and value not in outputs and len(tail.users(value)) == 1:
        node = tail[value]
        step = passage(tail, node, values)
        if step is None or step.group > 1:
            found = layer(tail, node, values)
            source = found if isinstance(found, Layer) else None
            break
        steps.append((node, step))
        value = step.operand
    while value not in values:  # units cannot be taken from a tuple
        value = steps.pop()[0].name
    return source, value, tuple(reversed(steps))
