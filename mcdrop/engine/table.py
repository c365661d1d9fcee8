"""Tables: weights laid out so that a sample's part of them is gathered in whole blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.program.thinning import Gathered

# Blocks copied at a time: their addresses should stay in the cache.
_AT_A_TIME = 1 << 19


@dataclass(frozen=True, slots=True)
class Table:
    """A weight as a table of blocks, of which a sample gathers some rows and some columns.

    Where a sample keeps fewer units than others, numbers behind the last unit stand for none. A
    layer that makes units makes the last one once more then, which is as finite as the model is;
    the layer that reads them has zero weights behind the last one.

    Attributes:
        part: what it is a table of.
        blocks: `[rows · columns, *block]`, without a last axis where blocks are single elements.
        columns: blocks in a row.
        outputs: how many outputs the weight has.
    """

    part: Gathered
    blocks: Tensor
    columns: int
    outputs: int

    def gather(self, units: Mapping[str, Tensor], out: Tensor) -> None:
        """Write the parts of some samples.

        Args:
            units: numbers of the kept units of each mask, int64 `[S, K]`.
            out: `[S, ...]` of the part's shape, contiguous.
        """
        rows, columns = self._addresses(units)
        samples, blocks = len(out), rows.shape[1] * columns.shape[1]
        rows, columns = rows.expand(samples, -1), columns.expand(samples, -1)
        flat = out.view(samples, blocks, *self.blocks.shape[1:])
        step = max(1, _AT_A_TIME // blocks)
        for first in range(0, samples, step):
            some = slice(first, first + step)
            addresses = rows[some, :, None] + columns[some, None, :]
            torch.index_select(
                self.blocks, 0, addresses.flatten(), out=flat[some].flatten(end_dim=1)
            )

    def _addresses(self, units: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Where the rows begin, and how far from there the columns are; `[S or 1, ...]`."""
        device, count = self.blocks.device, self.blocks.shape[0]
        dtype = torch.int32 if count < 2**31 else torch.int64  # half as much to write and read
        row_mask, column_mask = _axes(self.part)
        chosen = {mask: units[mask] for mask in (row_mask, column_mask) if mask is not None}
        if self.part.outputs is not None:
            last = self.outputs - 1
            chosen[self.part.outputs] = chosen[self.part.outputs].clamp(max=last)
        if row_mask is None:
            rows = torch.arange(count // self.columns, device=device, dtype=dtype)[None]
        else:
            within = torch.arange(self.part.group, device=device)
            rows = (chosen[row_mask][:, :, None] * self.part.group + within).flatten(1).to(dtype)
        if column_mask is None:
            columns = torch.zeros((1, 1), device=device, dtype=dtype)
        else:
            columns = chosen[column_mask].to(dtype)
        return rows * self.columns, columns


def lay_out(part: Gathered, weight: Tensor) -> Table:
    """The table of a weight; takes as much memory as the weight."""
    row_mask, column_mask = _axes(part)
    if part.form == "vector":
        laid = weight.reshape(1, -1)
        outputs = laid.shape[1]
    else:
        laid = weight.t() if part.form == "matrix" else weight.flatten(2)
        laid, outputs = laid * part.scale, weight.shape[0]
    rows, columns = laid.shape[:2]
    more_rows = part.group if row_mask is not None and row_mask == part.inputs else 0
    more_columns = 1 if column_mask is not None and column_mask == part.inputs else 0
    padded = laid.new_zeros((rows + more_rows, columns + more_columns, *laid.shape[2:]))
    padded[:rows, :columns] = laid
    if column_mask is None:
        return Table(part, padded.flatten(1), 1, outputs)
    block = padded.shape[2:] if math.prod(padded.shape[2:]) > 1 else ()
    blocks = padded.reshape(padded.shape[0] * padded.shape[1], *block)
    return Table(part, blocks, padded.shape[1], outputs)


def _axes(part: Gathered) -> tuple[str | None, str | None]:
    """Masks that choose rows and columns: those that are rows are copied whole where they can."""
    if part.form == "matrix":
        return part.inputs, part.outputs
    if part.form == "kernel":
        return part.outputs, part.inputs
    return None, part.outputs
