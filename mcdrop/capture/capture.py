"""From a module to a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mcdrop.capture.convert import EAGER, convert
from mcdrop.capture.example import Example, Ranges, make_example
from mcdrop.capture.layout import place
from mcdrop.capture.probe import probe as run_probe
from mcdrop.capture.sites import describe, select
from mcdrop.capture.trace import Trace, trace
from mcdrop.errors import CaptureError, InputError, McdropError
from mcdrop.program.graph import Graph
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.program import Program
from mcdrop.program.randomness import UnsupportedRandomnessError, find
from mcdrop.program.schema import dtype_name
from mcdrop.program.site import Site


def capture(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    *,
    sites: str | Sequence[str] | None = None,
    dynamic_axes: Ranges | None = None,
    probe: bool = True,
) -> Program:
    """Trace a module once in Monte Carlo mode and describe its sites.

    The module, its training flags and the global random state are left as they were; the program
    holds a snapshot of the weights.

    Args:
        model: any module whose inputs are tensors with the batch in axis 0.
        example_inputs: a tensor, a tuple, or a dict by parameter name; any number of rows.
        sites: patterns of the sites to sample (`"head.*"`); all by default. The others stay off.
        dynamic_axes: free axes other than the batch, with their bounds:
            `{"input_ids": {1: (1, 512)}}`.
        probe: compare the program, every site off, with `model.eval()` on the example.

    Returns:
        The program. One without sites is returned, too: `MCDropout` refuses it.

    Raises:
        CaptureError: the module cannot be traced, or the probe found a difference.
        InputError: the examples or the selection do not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        >>> program = capture(net, torch.zeros(1, 4))
        >>> [(site.name, site.kind, site.p, site.shape) for site in program.sites]
        [('2', 'dropout', 0.2, (1, 8))]
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    example = make_example(model, example_inputs, dynamic_axes)
    traced = trace(model, example)
    try:
        program = _described(traced, example, sites)
    except McdropError:
        raise
    # a graph that torch could trace may still be one that no other part of torch can handle
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} was traced, but its graph cannot be used: "
            f"{type(error).__name__}: {str(error)[:200]}. {EAGER}"
        ) from error
    if probe:
        run_probe(program, model, example, python_random=traced.python_random)
    return program


def _described(traced: Trace, example: Example, patterns: str | Sequence[str] | None) -> Program:
    """The program of a trace, each site with its shape and the place of its rows."""
    graph, weights = convert(traced, tuple(example.tensors))
    device = next(iter(weights.values()), next(iter(example.tensors.values()))).device
    try:
        found = find(graph)
    except UnsupportedRandomnessError as error:
        raise CaptureError(f"{error}, or {EAGER}") from None
    provisional = _program(graph, describe(found), example, weights, device)
    placed = place(provisional, found, example)
    if example.ranges:
        _check_ends(provisional, example)
    sites = [
        replace(site, shape=where.shape, layout=where.layout)
        for site, where in zip(provisional.sites, placed, strict=True)
    ]
    return _program(graph, select(sites, patterns), example, weights, device)


def _check_ends(program: Program, example: Example) -> None:
    """Raise unless the program runs at the ends of the declared ranges, too."""
    for sizes in example.ends():
        try:
            program.measure(program.stochastic, program.meta_inputs(example.rows, sizes))
        except Exception as error:  # whatever an operation says of shapes that do not fit
            told = {name: [example.rows, *shape] for name, shape in sizes.items()}
            raise CaptureError(
                f"dynamic_axes allows inputs of the shapes {told}, and the trace cannot run on "
                f"them: {type(error).__name__}: {str(error)[:200]}. What a model decides by a size "
                f"(`if`, `min`) stays as it was for the example's. Narrow the ranges, or {EAGER}"
            ) from error


def _program(
    graph: Graph,
    sites: tuple[Site, ...],
    example: Example,
    weights: Mapping[str, Tensor],
    device: torch.device,
) -> Program:
    bare = Program(graph, sites, example.specs(), (), weights, device)
    return Program(graph, sites, example.specs(), _outputs(bare, example), weights, device)


def _outputs(program: Program, example: Example) -> tuple[TensorSpec, ...]:
    """Schema of the outputs: axes that differ between executions of other sizes are free."""

    def run(rows: int, *, resized: bool) -> Mapping[str, Tensor]:
        inputs = program.meta_inputs(rows, example.sizes(resized=resized))
        return program.measure(program.deterministic, inputs).outputs

    first, rows, sizes = run(2, resized=False), run(3, resized=False), run(2, resized=True)
    return tuple(
        TensorSpec(
            name=name,
            dtype=dtype_name(tensor.dtype),
            shape=tuple(
                a if axis > 0 and a == b == c else None
                for axis, (a, b, c) in enumerate(
                    zip(tensor.shape, rows[name].shape, sizes[name].shape, strict=True)
                )
            ),
        )
        for name, tensor in first.items()
    )
