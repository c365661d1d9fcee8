"""Where the rows are in each site's tensor.

The axis is found by running the program on the meta device with two numbers of rows. Where that
axis holds more than the batch (heads folded in, time flattened in), the order is found by changing
one row of the example and looking at which elements of the site's operand change; of noise that is
made apart (a mask of ones, numbers compared with a rate), of what it first meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcdrop.capture.example import Example
from mcdrop.errors import CaptureError
from mcdrop.program.graph import Graph, Ref
from mcdrop.program.places import met
from mcdrop.program.program import Program
from mcdrop.program.randomness import Found
from mcdrop.program.site import BatchLayout, Site

# Two numbers of rows that no other axis of a model is likely to be multiples of.
_FEW, _MANY = 7, 11


@dataclass(frozen=True, slots=True)
class Placed:
    """A mask's shape with the batch taken out, and where the batch was."""

    shape: tuple[int | None, ...]
    layout: BatchLayout | None


def place(program: Program, found: Sequence[Found], example: Example) -> list[Placed]:
    """Shape and batch layout of each site.

    Args:
        program: has provisional sites, without layouts, in the order of `found`.
        found: the random nodes.
        example: rows to look at.

    Raises:
        CaptureError: the batch is in more than one axis of a site.
    """
    few, many = (_noise_shapes(program, example, rows) for rows in (_FEW, _MANY))
    other = _noise_shapes(program, example, _FEW, resized=True) if example.ranges else few
    placed = [
        _axis(site, *(shapes[site.mask] for shapes in (few, many, other))) for site in program.sites
    ]
    folded = [i for i, where in enumerate(placed) if where.layout and where.layout.folded]
    orders = _orders(
        program,
        [found[i] for i in folded],
        [program.sites[i] for i in folded],
        [few[program.sites[i].mask] for i in folded],
        [placed[i] for i in folded],
        example,
    )
    for i, outer in zip(folded, orders, strict=True):
        layout = placed[i].layout
        assert layout is not None
        placed[i] = replace(placed[i], layout=replace(layout, outer=outer))
    return placed


def _axis(
    site: Site, few: tuple[int, ...], many: tuple[int, ...], other: tuple[int, ...]
) -> Placed:
    """Which axis of a site's noise holds the rows: the one that differs between `few` and `many`.

    Axes that differ between `few` and `other`, the same rows at other sizes, are free.
    """
    moving = [axis for axis, (a, b) in enumerate(zip(few, many, strict=True)) if a != b]
    linear = all(few[axis] * _MANY == many[axis] * _FEW for axis in moving)
    if len(moving) > 1 or not linear:
        raise CaptureError(
            f"site {site.name!r} has noise of shape {list(few)} for {_FEW} rows and {list(many)} "
            f"for {_MANY}: its rows cannot be told apart. Change that part of the model, or use "
            'engine="eager"'
        )
    free = [a != b for a, b in zip(few, other, strict=True)]
    shape = [None if f else size for size, f in zip(few, free, strict=True)]
    if not moving:
        return Placed(tuple(shape), None)
    dim = moving[0]
    around = few[dim] // _FEW
    shape[dim] = None if free[dim] else around
    return Placed(tuple(shape), BatchLayout(dim, 1, folded=free[dim] or around > 1))


def _noise_shapes(
    program: Program, example: Example, rows: int, *, resized: bool = False
) -> dict[str, tuple[int, ...]]:
    sizes = example.sizes(resized=resized)
    return program.measure(program.stochastic, program.meta_inputs(rows, sizes)).noise


def _orders(
    program: Program,
    found: Sequence[Found],
    sites: Sequence[Site],
    shapes: Sequence[tuple[int, ...]],
    placed: Sequence[Placed],
    example: Example,
) -> list[int | None]:
    """For each folded site, the factor of its axis that varies slower than the batch."""
    if not found:
        return []
    names = [_operand(f) for f in found]
    partners = [met(program.graph, site) for site in sites]
    base = example.with_rows(_FEW)
    changed = {name: changed_row(tensor) for name, tensor in base.items()}
    wanted = [*names, *(name for those in partners for name in those)]
    before, after, many = (
        _operands(program, wanted, values) for values in (base, changed, example.with_rows(_MANY))
    )
    orders = []
    for one, name, others, shape, where in zip(found, names, partners, shapes, placed, strict=True):
        assert where.layout is not None
        length = shape[where.layout.dim]
        moved = before[name] != after[name]
        if one.kind == "rnn" and one.node.args[8]:  # batch first; the noise is time first
            moved = moved.transpose(0, 1)
        lines = [_line(moved, where.layout.dim, length)]
        for other in others:
            axis = _rows_axis(before[other].shape, many[other].shape)
            lines.append(_line(before[other] != after[other], axis, length))
        orders.append(_order(lines, length // _FEW))
    return orders


def _rows_axis(few: tuple[int, ...], many: tuple[int, ...]) -> int:
    """The axis of a value that holds the rows: the only one that grows with them; -1 for none."""
    growing = [axis for axis, (a, b) in enumerate(zip(few, many, strict=True)) if a != b]
    return growing[0] if len(growing) == 1 else -1


def _line(moved: Tensor, axis: int, length: int) -> Tensor | None:
    """Where along an axis, of this length, anything changed; None where it cannot be told."""
    if not 0 <= axis < moved.ndim or moved.shape[axis] != length or not moved.any():
        return None
    others = [other for other in range(moved.ndim) if other != axis]
    return moved.any(dim=others) if others else moved


def _operand(found: Found) -> str:
    """The value whose rows lie like those of the site's noise."""
    if found.kind in ("bernoulli", "uniform", "normal", "exponential"):
        operands = [arg for arg in found.node.args if isinstance(arg, Ref)]
        return operands[-1].name if operands else ""
    first = found.node.args[0]
    assert isinstance(first, Ref)
    return first.name


def _operands(
    program: Program, names: Sequence[str], values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    known = [name for name in dict.fromkeys(names) if name in program.graph]
    # sites that are off vanish from the lowered graph, so their operands are made its outputs
    graph = Graph(
        program.graph.inputs,
        program.graph.weights,
        program.graph.nodes,
        tuple((name, name) for name in known),
    )
    probe = Program(
        graph.pruned(),
        program.sites,
        program.inputs,
        program.outputs,
        program.weights,
        program.device,
    )
    with torch.no_grad():
        found = probe.run_deterministic({k: v.to(program.device) for k, v in values.items()})
    blank = torch.zeros(())
    return {name: found.get(name, blank) for name in names}


def changed_row(tensor: Tensor) -> Tensor:
    """The tensor with its second row changed to something else that is valid."""
    changed = tensor.clone()
    row = changed[1]
    if row.is_floating_point():
        ramp = torch.linspace(0.5, 1.5, max(row.numel(), 1), dtype=row.dtype).reshape(row.shape)
        changed[1] = row * 1.37 + ramp.to(row.device)
    elif row.dtype == torch.bool:
        changed[1] = ~row
    else:
        low, high = tensor.amin(), tensor.amax()
        changed[1] = torch.where(row < high, row + 1, low) if low < high else row + 1
    return changed


def _order(lines: Sequence[Tensor | None], around: int) -> int | None:
    """The factor slower than the batch, by the first of the values that tell."""
    if around == 1:
        return 1
    line = next((line for line in lines if line is not None), None)
    if line is None:
        raise CaptureError(
            "changing one row of the example changed nothing at a site, so the order of its rows "
            "cannot be seen: pass example inputs as the model really gets them (not all zeros)"
        )
    fits = [
        outer
        for outer in range(1, around + 1)
        if around % outer == 0 and _only_second_row(line, outer, around // outer)
    ]
    if not fits:
        raise CaptureError(
            "changing one row of the example changed others at a site: the model mixes rows, so "
            'one row\'s answer would depend on the batch. Use engine="eager"'
        )
    if fits[0] == 1:
        return 1
    return None if around in fits else fits[0]


def _only_second_row(line: Tensor, outer: int, inner: int) -> bool:
    rows = line.reshape(outer, _FEW, inner).any(2).any(0)
    return bool(rows[1]) and int(rows.sum()) == 1
