"""What a shape of input costs in memory, measured without computing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.program.program import Program
from mcdrop.program.site import Site
from mcdrop.sampling import Masks, Shapes

_ROWS = 4  # measured with so many; memory is linear in rows
# What making a block of masks holds at its peak, in bytes for each element of a mask: words, counts
# and patterns of 16 samples; or for other laws their levels, sorted.
_MAKING_DROPS = 160
_MAKING_NOISE = 832
_REMEMBERED = 1024  # shapes of input whose footprints are kept


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
        making_bytes: what making a block of masks takes, once for all samples and rows.
        row_making_bytes: the same for each row, where masks are independent.
    """

    shapes: Shapes
    trunk_bytes: int
    boundary_bytes: int
    tail_bytes: int
    mask_bytes: int
    row_mask_bytes: int
    making_bytes: int
    row_making_bytes: int

    def rows(self, rows: int, budget: int) -> int:
        """How many rows fit the budget with one sample."""
        sampled = self.boundary_bytes + self.tail_bytes + self.row_mask_bytes
        per_row = max(self.trunk_bytes, sampled + self.row_making_bytes, 1)
        return max(1, min(rows, budget // per_row))

    def samples(self, rows: int, budget: int) -> int:
        """How many samples of so many rows fit the budget."""
        per_sample = (self.tail_bytes + self.row_mask_bytes) * rows + self.mask_bytes
        making = self.making_bytes + self.row_making_bytes * rows
        return max(1, (budget - making) // max(per_sample, 1))


class Footprints:
    """Measures each shape of input once.

    Args:
        program: what is sampled.
        masks: shared across rows or independent.
    """

    def __init__(self, program: Program, masks: Masks) -> None:
        self._program = program
        self._masks: Masks = masks
        self._known: dict[tuple[tuple[int, ...], ...], Footprint] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Footprint:
        """The footprint of inputs of these shapes (rows do not matter)."""
        key = tuple(tuple(tensor.shape[1:]) for tensor in inputs.values())
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = _measure(self._program, inputs, self._masks)
        return self._known[key]


def _measure(program: Program, inputs: Mapping[str, Tensor], masks: Masks) -> Footprint:
    sizes = {name: tensor.shape[1:] for name, tensor in inputs.items()}
    metas = program.meta_inputs(_ROWS, sizes)
    trunk = program.measure(program.trunk, metas)
    tail = program.measure(program.tail, trunk.outputs)
    shapes = tuple(_mask_shape(site, tail.noise.get(site.mask)) for site in program.active)
    shared = row = making = row_making = 0
    for site, shape in zip(program.active, shapes, strict=True):
        units = torch.Size(shape).numel()
        size = 5 * units  # the float mask, and a byte of comparing
        block = units * (_MAKING_DROPS if site.law.kind == "bernoulli" else _MAKING_NOISE)
        if masks == "independent" and site.layout is not None:
            row, row_making = row + size, max(row_making, block)
        else:
            shared, making = shared + size, max(making, block)
    held = sum(value.nbytes for value in trunk.outputs.values() if isinstance(value, Tensor))
    return Footprint(
        shapes=shapes,
        trunk_bytes=trunk.peak // _ROWS,
        boundary_bytes=held // _ROWS,
        tail_bytes=tail.peak // _ROWS,
        mask_bytes=shared,
        row_mask_bytes=row,
        making_bytes=making,
        row_making_bytes=row_making,
    )


def _mask_shape(site: Site, noise: tuple[int, ...] | None) -> tuple[int, ...]:
    if noise is None:  # the site does not reach the outputs that are wanted
        return ()
    if site.layout is None:
        return noise
    dim = site.layout.dim
    return (*noise[:dim], noise[dim] // _ROWS, *noise[dim + 1 :])
