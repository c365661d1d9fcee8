"""Tracing a module in Monte Carlo mode, without touching the module.

`torch.export` gives a flat ATen graph. Before it is made functional (no in-place operations), every
drop-out is put out of reach of decompositions by an operation of our own that stands for it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from mcdrop.capture.example import Example
from mcdrop.capture.outputs import Call, NamedOutputs
from mcdrop.errors import CaptureError
from mcdrop.program.measure import TRACING

aten = torch.ops.aten
NORMALISATION = (nn.modules.batchnorm._NormBase,)  # noqa: SLF001 (the base of Batch- and InstanceNorm)

_library = torch.library.Library("mcdrop_capture", "DEF")
_library.define("dropout(Tensor x, float p, str kind) -> Tensor")
_library.impl("dropout", lambda x, *_: torch.empty_like(x), "CompositeExplicitAutograd")
PLACEHOLDER = torch.ops.mcdrop_capture.dropout.default

_DROPOUTS: Mapping[Any, str] = MappingProxyType(
    {
        getattr(packet, overload): name
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
        for packet in (getattr(aten, name), getattr(aten, f"{name}_"))
        for overload in ("default",)
    }
)


# vmap has no rule for recurrent cells: they are taken apart.
_CELLS = (
    aten.lstm_cell.default,
    aten.gru_cell.default,
    aten.rnn_tanh_cell.default,
    aten.rnn_relu_cell.default,
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A functional exported program.

    Attributes:
        exported: what torch made.
        outputs: names of the outputs, in order.
        python_random: whether the forward pass drew from Python's or NumPy's generators.
    """

    exported: ExportedProgram
    outputs: tuple[str, ...]
    python_random: bool


def monte_carlo_copy(model: nn.Module, *, share: bool = True) -> nn.Module:
    """A copy of the module tree in Monte Carlo mode.

    Everything is in training mode but Batch- and InstanceNorm, whose statistics must not move.

    Args:
        model: the original.
        share: whether the copy has the original's parameters, and not copies of them.

    Raises:
        CaptureError: the module cannot be copied.
    """
    shared: dict[int, Any] = {}
    for module in model.modules():
        held = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        attributes = (v for v in vars(module).values() if isinstance(v, Tensor))
        for value in (*held, *attributes):
            if not isinstance(value, nn.Parameter):  # a forward pass may write into it
                shared[id(value)] = value.detach().clone()
            elif share:
                shared[id(value)] = value
            else:
                shared[id(value)] = nn.Parameter(value.detach().clone(), value.requires_grad)
    try:
        duplicate: nn.Module = copy.deepcopy(model, shared)
    except Exception as error:  # user code runs here; the cause is passed on
        raise CaptureError(
            f"{type(model).__name__} cannot be copied ({_first_line(error)}); the copy keeps your "
            "module untouched. Remove locks, handles or generators from its attributes"
        ) from error
    duplicate.train()
    for module in duplicate.modules():
        if isinstance(module, NORMALISATION):
            module.eval()
    return duplicate


def trace(model: nn.Module, example: Example) -> Trace:
    """Export a module in Monte Carlo mode with a free batch axis.

    Raises:
        CaptureError: it cannot be traced; the message names the cause.
    """
    with TRACING, warnings.catch_warnings(), torch.no_grad():
        # torch's own, about how modules are built and about its deprecations: not the caller's
        warnings.simplefilter("ignore")
        calls: list[Call] = []
        keywords = tuple(example.tensors) if example.by_keyword else None
        wrapped = NamedOutputs(monte_carlo_copy(model), keywords, calls.append)
        try:
            exported = _export(wrapped, example)
            for part in exported.graph_module.modules():  # of autocast the body is one of its own
                if isinstance(part, fx.GraphModule):
                    _shield(part)
            table = torch.export.default_decompositions()
            exported = exported.run_decompositions({op: table[op] for op in _CELLS})
        except CaptureError:
            raise
        except Exception as error:  # anything may come out of user code and torch
            raise CaptureError(_explain(model, error)) from error
        return Trace(exported, calls[-1].outputs, calls[-1].python_random)


def _export(wrapped: NamedOutputs, example: Example) -> ExportedProgram:
    shapes = tuple(
        {
            0: Dim.DYNAMIC(),
            **{
                axis: Dim.DYNAMIC(min=low, max=high)
                for axis, (low, high) in example.ranges.get(name, {}).items()
            },
        }
        for name in example.tensors
    )
    tensors = tuple(example.tensors.values())
    return torch.export.export(wrapped, tensors, dynamic_shapes=(shapes,), strict=False)


def _shield(module: fx.GraphModule) -> None:
    """Replace drop-outs by the placeholder, and normalisation in training mode by evaluation."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _DROPOUTS:
            _shield_dropout(graph, node)
        elif node.target in (aten.batch_norm.default, aten.instance_norm.default):
            args = list(node.args)
            if args[3] is not None:  # with running statistics: use them, as in evaluation
                args[5] = False
                node.args = tuple(args)
    module.recompile()


def _shield_dropout(graph: fx.Graph, node: fx.Node) -> None:
    x, p, train = node.args
    assert isinstance(x, fx.Node)
    if not train or p == 0:
        node.replace_all_uses_with(x)
        graph.erase_node(node)
        return
    with graph.inserting_before(node):
        new = graph.call_function(PLACEHOLDER, (x, p, _DROPOUTS[node.target]))
        new.meta.update(node.meta)
        if str(node.target).split(".")[1].endswith("_"):  # in place
            copied = graph.call_function(aten.copy_.default, (x, new))
            copied.meta.update(node.meta)
            new = copied
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _explain(model: nn.Module, error: Exception) -> str:
    """Which of the usual obstacles an error of torch.export stands for, and what to try."""
    text = f"{type(error).__name__}: {error}"
    causes = (
        (
            ("GuardOnDataDependent", "data-dependent", "aten._local_scalar_dense", ".item()"),
            "its control flow depends on the values of tensors (an `if`, a loop or `.item()`)",
        ),
        (
            ("Constraints violated", "specialized it to be a constant", "ConstraintViolation"),
            "it fixes the size of an axis that must be free, for instance by reshaping to a number",
        ),
        (("PackedSequence", "pack_padded"), "it packs sequences of varying length"),
        (("not a known type", "pytree"), "it passes objects that torch cannot trace through"),
    )
    cause = next(
        (why for signs, why in causes if any(sign in text for sign in signs)),
        "torch.export could not follow it",
    )
    return (
        f"{type(model).__name__} cannot be traced: {cause} [{_first_line(error)}]. "
        'Rewrite that part, or use engine="eager", which runs the module itself'
    )
