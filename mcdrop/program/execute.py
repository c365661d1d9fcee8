"""Running a graph: compiled once into a list of steps, each value dropped after its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mcdrop.program.graph import Arg, Graph, Node, Ref, Token
from mcdrop.program.kernels import KERNELS
from mcdrop.program.ops import resolve


class Observer(Protocol):
    """Watches an execution; used to measure shapes and memory without a second interpreter."""

    def step(self, node: Node, value: Any, dead: Sequence[str]) -> None:
        """Called after each node with its value and the names that nobody reads any more."""


@dataclass(frozen=True, slots=True)
class _Slot:
    index: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A node, ready to run.

    Attributes:
        node: for observers.
        function: what computes it.
        args: its positional arguments, with places for values left open.
        values: which value goes to which of those places.
        lists: arguments that are lists with values in them.
        kwargs: its named arguments.
        out: where the result goes.
        dead: values that nobody reads any more.
    """

    node: Node
    function: Callable[..., Any]
    args: tuple[Any, ...]
    values: tuple[tuple[int, int], ...]
    lists: tuple[int, ...]
    kwargs: dict[str, Any]
    out: int
    dead: tuple[int, ...]


class Executable:
    """A graph bound to a device.

    Args:
        graph: what to run.
        device: what `Token.DEVICE` stands for.
        kernels: replacements for the operations of lowering, by name.
    """

    def __init__(
        self,
        graph: Graph,
        device: torch.device,
        kernels: Mapping[str, Callable[..., Any]] = KERNELS,
    ) -> None:
        self.graph = graph
        self._names = (*graph.inputs, *graph.weights)
        slots = {name: i for i, name in enumerate(self._names)}
        for node in graph.nodes:
            slots[node.name] = len(slots)
        last: dict[str, int] = {}
        for position, node in enumerate(graph.nodes):
            last[node.name] = position
            for name in node.refs():
                last[name] = position
        kept = {name for _, name in graph.outputs} | set(graph.weights)
        dying: dict[int, list[str]] = {}
        for name, position in last.items():
            if name not in kept:
                dying.setdefault(position, []).append(name)
        self._slots = slots
        self._names_by_slot = {i: name for name, i in slots.items()}
        self._outputs = tuple(slots[name] for _, name in graph.outputs)

        def bind(arg: Arg) -> Any:
            if isinstance(arg, Ref):
                return _Slot(slots[arg.name])
            if isinstance(arg, tuple):
                return tuple(bind(item) for item in arg)
            return device if arg is Token.DEVICE else arg

        def step(position: int, node: Node) -> _Step:
            args = bind(node.args)
            return _Step(
                node,
                kernels[node.op] if node.op in kernels else resolve(node.op),
                args,
                tuple((i, arg.index) for i, arg in enumerate(args) if type(arg) is _Slot),
                tuple(i for i, arg in enumerate(args) if type(arg) is tuple),
                {key: bind(value) for key, value in node.kwargs},
                slots[node.name],
                tuple(slots[name] for name in dying.get(position, ())),
            )

        self._steps = tuple(step(i, node) for i, node in enumerate(graph.nodes))

    def __call__(
        self, values: Mapping[str, Any], observer: Observer | None = None
    ) -> tuple[Any, ...]:
        """Run the graph.

        Args:
            values: one value for each input and each weight, by name.
            observer: told of every node.

        Returns:
            The outputs, in the order of `graph.outputs`.
        """
        slots: list[Any] = [None] * len(self._slots)
        for i, name in enumerate(self._names):
            slots[i] = values[name]
        for step in self._steps:
            args = list(step.args)
            for place, value in step.values:
                args[place] = slots[value]
            for place in step.lists:
                args[place] = _bound(args[place], slots)
            if step.kwargs:
                kwargs = {key: _bound(arg, slots) for key, arg in step.kwargs.items()}
                slots[step.out] = step.function(*args, **kwargs)
            else:
                slots[step.out] = step.function(*args)
            if observer is not None:
                dead = [self._names_by_slot[i] for i in step.dead]
                observer.step(step.node, slots[step.out], dead)
            for i in step.dead:
                slots[i] = None
        return tuple(slots[i] for i in self._outputs)


def _bound(arg: Any, slots: list[Any]) -> Any:
    if type(arg) is _Slot:
        return slots[arg.index]
    if type(arg) is tuple:
        return [_bound(item, slots) for item in arg]
    return arg
