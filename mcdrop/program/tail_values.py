"""Shapes and types of every value of a program's tail, found on the meta device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.execute import Executable
from mcdrop.program.graph import Node
from mcdrop.program.kernels import KERNELS, SHAPES
from mcdrop.program.measure import META, TRACING, to_meta
from mcdrop.program.program import Program
from mcdrop.program.site import Site

_ROWS = 61  # unlikely to be the size of another axis


class _Record:
    """Keeps the tensors that an execution makes."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def step(self, node: Node, value: Any, dead: Sequence[str]) -> None:  # noqa: ARG002
        if isinstance(value, Tensor):
            self.values[node.name] = value


def tail_values(program: Program) -> Mapping[str, Tensor]:
    """Meta tensors for a tail's inputs, weights and nodes, of some rows and of masks for all rows.

    Values that are no tensors are left out; so are masks that nothing reads. Free axes are of the
    smallest size.
    """
    sizes = {spec.name: spec.smallest() for spec in program.inputs}
    boundary = program.measure(program.trunk, program.meta_inputs(_ROWS, sizes)).outputs
    noise = program.measure(program.tail, boundary).noise
    masks = {
        site.mask: torch.empty(
            _mask_shape(site, noise[site.mask]), dtype=torch.float32, device=META
        )
        for site in program.active
        if site.mask in noise
    }
    weights = to_meta({name: program.weights[name] for name in program.tail.weights})
    unread = {name: None for name in program.tail.inputs if name not in masks}
    record = _Record()
    kernels = {**KERNELS, **SHAPES}
    with TRACING:
        values = {**unread, **boundary, **masks, **weights}
        Executable(program.tail, META, kernels)(values, record)
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return {**tensors, **record.values}


def _mask_shape(site: Site, noise: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a mask that all rows share, `[1, *shape]`."""
    if site.layout is None:
        return (1, *noise)
    dim = site.layout.dim
    return (1, *noise[:dim], noise[dim] // _ROWS, *noise[dim + 1 :])
