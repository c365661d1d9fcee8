"""Example inputs: what a trace is made with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import dtype_name

Ranges = Mapping[str, Mapping[int, tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Example:
    """Named example tensors of at least two rows, and how the module takes them.

    Attributes:
        tensors: by parameter name, all with the same number of rows.
        by_keyword: whether the module is called with keywords (a dict was given).
        ranges: bounds of the free axes other than the batch, by input and axis.
    """

    tensors: Mapping[str, Tensor]
    by_keyword: bool
    ranges: Ranges

    @property
    def rows(self) -> int:
        """Number of rows."""
        return next(iter(self.tensors.values())).shape[0]

    def call(self, module: nn.Module, tensors: Mapping[str, Tensor] | None = None) -> object:
        """Call the module with these tensors (the example's by default)."""
        tensors = self.tensors if tensors is None else tensors
        return module(**tensors) if self.by_keyword else module(*tensors.values())

    def specs(self) -> tuple[TensorSpec, ...]:
        """The schema that the example stands for."""
        return tuple(
            TensorSpec(
                name=name,
                dtype=dtype_name(tensor.dtype),
                shape=tuple(
                    None if axis == 0 or axis in self.ranges.get(name, {}) else size
                    for axis, size in enumerate(tensor.shape)
                ),
                ranges=dict(self.ranges.get(name, {})),
            )
            for name, tensor in self.tensors.items()
        )

    def sizes(self, *, resized: bool = False) -> dict[str, list[int]]:
        """Shapes without the batch axis; `resized` moves each free axis to another allowed size."""
        sizes = {}
        for name, tensor in self.tensors.items():
            shape = list(tensor.shape[1:])
            if resized:
                for axis, (low, high) in self.ranges.get(name, {}).items():
                    now = shape[axis - 1]
                    shape[axis - 1] = now + 1 if now < high else max(now - 1, low)
            sizes[name] = shape
        return sizes

    def ends(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Shapes without the batch axis, free axes as short and as long as they may be."""
        ends = []
        for end in (0, 1):
            sizes = self.sizes()
            for name, axes in self.ranges.items():
                for axis, limits in axes.items():
                    sizes[name][axis - 1] = limits[end]
            ends.append(sizes)
        return ends[0], ends[1]

    def with_rows(self, rows: int) -> dict[str, Tensor]:
        """The example's tensors cut or repeated to a number of rows."""
        return {name: _repeated(tensor, rows) for name, tensor in self.tensors.items()}


def make_example(
    model: nn.Module,
    inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    dynamic_axes: Ranges | None,
) -> Example:
    """Name and check example inputs; a single row is doubled, as a batch axis of 1 would be fixed.

    Raises:
        InputError: something is not a tensor, has no batch axis, or the numbers of rows differ.
    """
    if isinstance(inputs, Mapping):
        named, by_keyword = dict(inputs), True
    else:
        if not isinstance(inputs, Tensor | Sequence):
            raise InputError(
                "example_inputs must be a tensor, a tuple or a dict of tensors; got "
                f"{type(inputs).__name__}"
            )
        values = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        named = dict(zip(_parameter_names(model, len(values)), values, strict=True))
        by_keyword = False
    _check(named)
    ranges = {name: dict(axes) for name, axes in (dynamic_axes or {}).items()}
    _check_ranges(named, ranges)
    rows = max(2, next(iter(named.values())).shape[0])
    return Example(
        {name: _repeated(t.detach(), rows) for name, t in named.items()}, by_keyword, ranges
    )


def _parameter_names(model: nn.Module, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in positional]
    return names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]


def _check(named: Mapping[str, Tensor]) -> None:
    if not named:
        raise InputError("example_inputs is empty: pass a tuple or a dict of tensors")
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"example input {name!r} must be a tensor; got {type(value).__name__}: bind other "
                "arguments in a wrapping module"
            )
        if value.ndim == 0 or value.shape[0] == 0:
            raise InputError(
                f"example input {name!r} needs a batch axis with at least one row; "
                f"got shape {list(value.shape)}"
            )
    counts = {name: value.shape[0] for name, value in named.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"example inputs must have the same number of rows (axis 0); got {counts}")


def _check_ranges(named: Mapping[str, Tensor], ranges: Ranges) -> None:
    for name, axes in ranges.items():
        if name not in named:
            raise InputError(f"dynamic_axes names {name!r}; the inputs are {sorted(named)}")
        shape = named[name].shape
        for axis, bounds in axes.items():
            if not isinstance(bounds, tuple | list) or len(bounds) != 2:
                raise InputError(
                    f"dynamic_axes of {name!r} bounds axis {axis} by {bounds!r}; expected a pair, "
                    "such as (1, 512)"
                )
            low, high = bounds
            if not 0 < axis < len(shape):
                raise InputError(
                    f"dynamic_axes of {name!r} names axis {axis}; it has 1 to {len(shape) - 1} "
                    "(axis 0 is the batch, which is always free)"
                )
            if not 1 <= low <= shape[axis] <= high or shape[axis] < 2:
                raise InputError(
                    f"dynamic_axes of {name!r} bounds axis {axis} by {low} to {high}; the example "
                    f"has {shape[axis]} there, and must lie within and be at least 2"
                )


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    index = torch.arange(rows, device=tensor.device) % tensor.shape[0]
    return tensor.index_select(0, index)
