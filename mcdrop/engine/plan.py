"""Chunks that fit: how many rows and samples an engine computes at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.program.program import Program
from mcdrop.program.site import Site
from mcdrop.sampling import Masks

_ROWS = 4  # measured with so many; memory is linear in rows
# Beyond the last-level cache, larger chunks only cost memory bandwidth (measured on CPU).
_CPU_WORKING_SET = 32 << 20
# Larger chunks gain nothing measurable, and memory is the same for any number of samples beyond.
_MOST_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """Chunk sizes.

    Attributes:
        rows: rows computed together.
        samples: samples of those rows computed together.
    """

    rows: int
    samples: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one shape of input costs.

    Attributes:
        shapes: shape of each enabled site's mask, the batch taken out.
        trunk_bytes: peak of the trunk, per row.
        boundary_bytes: what the trunk leaves for the tail, per row.
        tail_bytes: peak of the tail, per row and sample.
        mask_bytes: masks of one sample that all rows share.
        row_mask_bytes: masks of one sample, for each row, where masks are independent.
    """

    shapes: tuple[tuple[int, ...], ...]
    trunk_bytes: int
    boundary_bytes: int
    tail_bytes: int
    mask_bytes: int
    row_mask_bytes: int

    def plan(self, rows: int, budget: int, device: torch.device) -> Plan:
        """The largest chunks whose tensors stay within `budget` bytes."""
        sampled = self.boundary_bytes + self.tail_bytes + self.row_mask_bytes
        per_row = max(self.trunk_bytes, sampled, 1)
        fitting = max(1, min(rows, budget // per_row))
        per_sample = (self.tail_bytes + self.row_mask_bytes) * fitting + self.mask_bytes
        limit = min(budget, _CPU_WORKING_SET) if device.type == "cpu" else budget
        return Plan(fitting, min(_MOST_SAMPLES, max(1, limit // max(per_sample, 1))))


def footprint(program: Program, inputs: Mapping[str, Tensor], masks: Masks) -> Footprint:
    """Measure a program on the meta device for inputs of these shapes (rows do not matter)."""
    sizes = {name: tensor.shape[1:] for name, tensor in inputs.items()}
    metas = program.meta_inputs(_ROWS, sizes)
    trunk = program.measure(program.trunk, metas)
    tail = program.measure(program.tail, trunk.outputs)
    shapes = tuple(_mask_shape(site, tail.noise.get(site.mask)) for site in program.active)
    shared = row = 0
    for site, shape in zip(program.active, shapes, strict=True):
        size = 8 * torch.Size(shape).numel()  # words and the float mask made of them
        if masks == "independent" and site.layout is not None:
            row += size
        else:
            shared += size
    held = sum(value.nbytes for value in trunk.outputs.values() if isinstance(value, Tensor))
    return Footprint(shapes, trunk.peak // _ROWS, held // _ROWS, tail.peak // _ROWS, shared, row)


def _mask_shape(site: Site, noise: tuple[int, ...] | None) -> tuple[int, ...]:
    if noise is None:  # the site does not reach the outputs that are wanted
        return ()
    if site.layout is None:
        return noise
    dim = site.layout.dim
    return (*noise[:dim], noise[dim] // _ROWS, *noise[dim + 1 :])
