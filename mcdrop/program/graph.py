"""The graph of a program: immutable, made of plain data, with nothing of Python's in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias

import torch


@dataclass(frozen=True, slots=True)
class Ref:
    """The value that an input, a weight or an earlier node of this name produced."""

    name: str


class Token(Enum):
    """Arguments that are bound when a graph is compiled."""

    DEVICE = "device"


Arg: TypeAlias = (
    "bool | int | float | str | Ref | Token | torch.dtype | torch.layout"
    " | torch.memory_format | tuple[Arg, ...] | None"
)


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        name: the value it defines, unique in its graph.
        op: what to call, by its resolvable name: `"aten.add.Tensor"`, `"sym.mul"`, `"getitem"`.
        path: module path that the operation comes from; empty for the root.
    """

    name: str
    op: str
    args: tuple[Arg, ...] = ()
    kwargs: tuple[tuple[str, Arg], ...] = ()
    path: str = ""

    def refs(self) -> Iterator[str]:
        """Names of the values it reads."""
        yield from _refs(self.args)
        for _, value in self.kwargs:
            yield from _refs(value)

    def map_refs(self, change: Callable[[str], Arg]) -> Node:
        """The same node with each `Ref` replaced by what `change` makes of its name."""
        return replace(
            self,
            args=tuple(_map_refs(arg, change) for arg in self.args),
            kwargs=tuple((key, _map_refs(arg, change)) for key, arg in self.kwargs),
        )

    def kwarg(self, name: str, default: Arg = None) -> Arg:
        """The keyword argument `name`, or `default`."""
        return dict(self.kwargs).get(name, default)

    def arg(self, position: int, name: str, default: Arg = None) -> Arg:
        """The argument at `position`, or passed as `name`, or `default`."""
        return self.args[position] if position < len(self.args) else self.kwarg(name, default)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in order of execution, over named inputs and weights.

    Attributes:
        inputs: names of the values that the caller passes.
        weights: names of the values held by the program.
        outputs: pairs (public name, value name).
    """

    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def users(self, name: str) -> tuple[Node, ...]:
        """Nodes that read the value `name`."""
        return tuple(node for node in self.nodes if name in node.refs())

    def problem(self) -> str | None:
        """What makes the graph unsound (a value used before or defined after), or `None`."""
        known: set[str] = set()
        for name in (*self.inputs, *self.weights):
            if name in known:
                return f"the value {name!r} is defined twice"
            known.add(name)
        for node in self.nodes:
            for name in node.refs():
                if name not in known:
                    return f"node {node.name!r} reads {name!r}, which nothing before it defines"
            if node.name in known:
                return f"the value {node.name!r} is defined twice"
            known.add(node.name)
        for public, name in self.outputs:
            if name not in known:
                return f"output {public!r} is the value {name!r}, which nothing defines"
        return None

    def reached_from(self, sources: Iterable[str]) -> frozenset[str]:
        """Names of `sources` and of every value computed from them."""
        reached = set(sources)
        for node in self.nodes:
            if any(name in reached for name in node.refs()):
                reached.add(node.name)
        return frozenset(reached)

    def pruned(self) -> Graph:
        """The same graph without nodes and weights that no output needs."""
        needed = {name for _, name in self.outputs}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.refs())
        return Graph(
            inputs=self.inputs,
            weights=tuple(name for name in self.weights if name in needed),
            nodes=tuple(node for node in self.nodes if node.name in needed),
            outputs=self.outputs,
        )

    def select(self, outputs: Iterable[str]) -> Graph:
        """The graph that computes only these outputs, by public name."""
        wanted = tuple(outputs)
        named = dict(self.outputs)
        return replace(self, outputs=tuple((name, named[name]) for name in wanted)).pruned()


def _refs(arg: Arg) -> Iterator[str]:
    if isinstance(arg, Ref):
        yield arg.name
    elif isinstance(arg, tuple):
        for item in arg:
            yield from _refs(item)


def _map_refs(arg: Arg, change: Callable[[str], Arg]) -> Arg:
    if isinstance(arg, Ref):
        return change(arg.name)
    if isinstance(arg, tuple):
        return tuple(_map_refs(item, change) for item in arg)
    return arg
