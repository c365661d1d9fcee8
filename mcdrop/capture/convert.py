"""From an exported program to our graph: plain data, ATen operations only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from mcdrop.capture.trace import PLACEHOLDER, Trace
from mcdrop.errors import CaptureError
from mcdrop.program.graph import Arg, Graph, Node, Ref, Token
from mcdrop.program.ops import SYMBOLIC_NAMES

ROOT = "model"  # attribute by which the traced wrapper holds the caller's module
_DROPPED = ("aten._assert", "aten.sym_constrain_range")
# Uninitialised memory never enters a program.
_FILLED: Mapping[str, str] = MappingProxyType(
    {
        "aten.empty.memory_format": "aten.zeros.default",
        "aten.empty_like.default": "aten.zeros_like.default",
        "aten.new_empty.default": "aten.new_zeros.default",
    }
)
_NOT_CARRIED = ("pin_memory", "memory_format", "layout")
EAGER = 'engine="eager" runs the module itself'


def convert(trace: Trace, inputs: tuple[str, ...]) -> tuple[Graph, dict[str, Tensor]]:
    """Graph and weights of a trace.

    Args:
        trace: functional, with placeholders for its drop-outs.
        inputs: public names of the user inputs, in order.

    Returns:
        The graph, with ordinary ATen drop-outs in it, and a snapshot of its weights by name.

    Raises:
        CaptureError: an operation cannot be part of a program.
    """
    exported = trace.exported
    names, weights = _values(exported, inputs)
    nodes = []
    for node in exported.graph.nodes:
        if node.op == "call_function" and not str(node.target).startswith(_DROPPED):
            if node.name in inputs:  # a public name that a node happens to have, too
                names[node.name] = f"{node.name}:node"
            nodes.append(_node(node, names))
    graph = Graph(inputs, tuple(weights), tuple(nodes), _outputs(trace, names)).pruned()
    return graph, {name: weights[name] for name in graph.weights}


def _values(
    exported: ExportedProgram, inputs: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Our names for the placeholders, and the weights; a tensor under two names is kept once."""
    constants = {**exported.state_dict, **exported.constants}
    names: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    known: dict[int, str] = {}
    users = iter(inputs)
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            names[spec.arg.name] = next(users)
            continue
        target = str(spec.target)
        tensor = constants.get(target)
        if not isinstance(tensor, Tensor):
            raise CaptureError(
                f"the model uses {target!r} of type {type(tensor).__name__} as a constant; only "
                f"tensors can be part of a program. {EAGER}"
            )
        name = known.setdefault(id(tensor), f"w:{target.removeprefix(f'{ROOT}.')}")
        weights.setdefault(name, tensor.detach().clone())
        names[spec.arg.name] = name
    return names, weights


def _outputs(trace: Trace, names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    specs = trace.exported.graph_signature.output_specs
    kept = [spec.arg.name for spec in specs if spec.kind == OutputKind.USER_OUTPUT]
    return tuple(
        (public, names.get(name, name)) for public, name in zip(trace.outputs, kept, strict=True)
    )


def _node(node: fx.Node, names: Mapping[str, str]) -> Node:
    op = _op(node)
    args = tuple(_arg(node, arg, names) for arg in node.args)
    if node.target is PLACEHOLDER:
        x, p, kind = args
        op, args = f"aten.{kind}.default", (x, p, True)
    kwargs = tuple(
        (key, _arg(node, value, names))
        for key, value in node.kwargs.items()
        if key not in _NOT_CARRIED
    )
    return Node(names.get(node.name, node.name), _FILLED.get(op, op), args, kwargs, path(node))


def _op(node: fx.Node) -> str:
    target: Any = node.target
    if target in SYMBOLIC_NAMES:
        return SYMBOLIC_NAMES[target]
    if not isinstance(target, OpOverload):
        raise CaptureError(
            f"the model uses {target} ({_where(node)}), which cannot be part of a program; {EAGER}"
        )
    if target._schema.is_mutable:  # noqa: SLF001 (no public accessor)
        raise CaptureError(
            f"{target} ({_where(node)}) writes into its argument and cannot be part of a program; "
            f"{EAGER}"
        )
    return str(target)


def _arg(node: fx.Node, arg: Any, names: Mapping[str, str]) -> Arg:
    if isinstance(arg, fx.Node):
        return Ref(names.get(arg.name, arg.name))
    if isinstance(arg, list | tuple):
        return tuple(_arg(node, item, names) for item in arg)
    if isinstance(arg, torch.device):
        return Token.DEVICE
    plain = bool | int | float | str | torch.dtype | torch.layout | torch.memory_format
    if arg is None or isinstance(arg, plain):
        return arg
    raise CaptureError(
        f"{node.target} ({_where(node)}) has an argument of type {type(arg).__name__}, which "
        f"cannot "
        f"be part of a program; {EAGER}"
    )


def path(node: fx.Node) -> str:
    """Path, within the caller's module, that a node comes from; empty for its own forward."""
    stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    inner = stack[-1] if stack else ""
    return inner.removeprefix(ROOT).removeprefix(".") if inner.startswith(ROOT) else ""


def _where(node: fx.Node) -> str:
    inner = path(node)
    return f"in {inner!r}" if inner else "in its forward"
