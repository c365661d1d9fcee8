"""Spreads: what is known of values that depend on dropped units, while a graph is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.graph import Arg, Graph, Node, Ref
from mcdrop.program.site import Site


class ObstacleError(Exception):
    """Why the variance of a value is not known; the text follows the name of a site."""


def obstacle(node: Node, why: str) -> ObstacleError:
    """The error that says at which operation the variance is lost."""
    where = f" (in {node.path!r})" if node.path else ""
    return ObstacleError(f"reaches the output through {node.op}{where}, {why}")


@dataclass(frozen=True, slots=True)
class Spread:
    """What is known of a value that depends on dropped units.

    Attributes:
        variance: name of the value that holds the variance of each element, in float32 or wider.
        sites: indices of the sites that it depends on.
        independent: whether no unit reaches two elements of a row, so that variances of sums are
            sums of variances.
    """

    variance: str
    sites: frozenset[int]
    independent: bool = True


class Draft:
    """A graph in the making: the nodes of the means, and those of the variances between them.

    Args:
        graph: the captured graph whose nodes are taken in, one by one and in order.
        measured: its values on the meta device by name, at each of several sizes of the inputs.
    """

    def __init__(self, graph: Graph, measured: Sequence[Mapping[str, Any]]) -> None:
        self.spreads: dict[str, Spread] = {}
        self._graph = graph
        self._measured = measured
        self._nodes: list[Node] = []
        self._means: dict[str, str] = {}  # what a drop-out that is taken out stands for
        self._squares: dict[str, Ref] = {}
        self._names = {*graph.inputs, *graph.weights, *(node.name for node in graph.nodes)}

    def keep(self, node: Node) -> None:
        """Take in a node as it is: it computes a mean, or does not depend on dropped units."""
        self._nodes.append(node.map_refs(lambda name: Ref(self._means.get(name, name))))

    def drop(self, node: Node, site: Site) -> None:
        """Take in the drop-out of a site: the mean of x ⊙ m is x, its variance x² p / (1 - p)."""
        operand = node.args[0]
        assert isinstance(operand, Ref)
        assert site.p is not None
        if site.p >= 1.0:  # the masks are all 0, so the mean is, too, and nothing varies
            self.keep(Node(node.name, "aten.zeros_like.default", (operand,), path=node.path))
            variance = self.zeros(node, operand)
        else:
            self._means[node.name] = self._means.get(operand.name, operand.name)
            odds = site.p / (1.0 - site.p)
            variance = self.emit(node, "aten.mul.Tensor", self.square(node, operand), odds)
        self.spreads[node.name] = Spread(variance.name, frozenset({site.index}))

    def emit(self, source: Node, op: str, *args: Arg, **kwargs: Arg) -> Ref:
        """Add a node on the way to the variance of the value of `source`."""
        name = f"{source.name}:variance"
        while name in self._names:
            name += "'"
        self._names.add(name)
        self.keep(Node(name, op, args, tuple(kwargs.items()), source.path))
        return Ref(name)

    def graph(self, outputs: Iterable[tuple[str, str]]) -> Graph:
        """What has been taken in, with these outputs: pairs (public name, value name)."""
        named = tuple((public, self._means.get(name, name)) for public, name in outputs)
        return Graph(self._graph.inputs, self._graph.weights, tuple(self._nodes), named).pruned()

    def spread(self, arg: Arg) -> Spread | None:
        """The spread of an argument; `None` where it does not depend on dropped units."""
        return self.spreads.get(arg.name) if isinstance(arg, Ref) else None

    def reached(self, node: Node) -> list[str]:
        """Names of the values that a node reads and that depend on dropped units."""
        return [name for name in node.refs() if name in self.spreads]

    def square(self, source: Node, arg: Arg) -> Arg:
        """The square of a factor; that of a value is computed once, however often it is wanted."""
        if not isinstance(arg, Ref):
            assert isinstance(arg, int | float), arg
            return float(arg) * float(arg)
        if arg.name not in self._squares:
            value, factor = self.value(arg.name), arg
            if isinstance(value, Tensor) and value.dtype != self.dtype(arg.name):
                factor = self.cast(source, arg, self.dtype(arg.name))
            op = "aten.mul.Tensor" if isinstance(value, Tensor) else "sym.mul"
            self._squares[arg.name] = self.emit(source, op, factor, factor)
        return self._squares[arg.name]

    def zeros(self, source: Node, like: Ref) -> Ref:
        """The variance of a value that does not vary."""
        return self.emit(source, "aten.zeros_like.default", like, dtype=self.dtype(like.name))

    def cast(self, source: Node, arg: Ref, dtype: torch.dtype) -> Ref:
        """A value in another type."""
        return self.emit(source, "aten._to_copy.default", arg, dtype=dtype)

    def value(self, name: str) -> Any:
        """A value of the captured graph on the meta device; a number where it is a size."""
        return self._measured[0][name]

    def dtype(self, name: str) -> torch.dtype:
        """Type of the variance of a value: its own, but float32 at least."""
        value = self.value(name)
        own = value.dtype if isinstance(value, Tensor) else torch.float32
        return torch.promote_types(own, torch.float32)

    def same_shape(self, arg: Arg, name: str) -> bool:
        """Whether two values have one shape, at every size of the inputs."""
        assert isinstance(arg, Ref)
        return all(sizes[arg.name].shape == sizes[name].shape for sizes in self._measured)

    def count(self, source: Node, operand: Ref, dims: tuple[int, ...], keepdim: Arg) -> Arg:
        """How many elements of a value a sum over axes has; over all axes where none is named."""
        axes = dims or range(self.value(operand.name).ndim)
        counts: set[int] = {
            math.prod(sizes[operand.name].shape[axis] for axis in axes) for sizes in self._measured
        }
        if len(counts) == 1:
            return counts.pop()
        # an axis is free; its size cannot be asked for in the tail, which vmap must be able to take
        dtype = self.dtype(operand.name)
        ones = self.emit(source, "aten.ones_like.default", operand, dtype=dtype)
        return self.emit(source, "aten.sum.dim_IntList", ones, dims, keepdim)
