"""Values of labelled rows in the types they are used in; rows with others are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcdrop.cli.labelled_source import Values
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.schema import dtype_of


def model_input(
    spec: TensorSpec, values: Values, where: Callable[[str, int], str], faults: dict[int, str]
) -> Tensor:
    """Numbers `[n, ...]` in the type of an input.

    Whole numbers may be written as floats. A row with a value that the type cannot hold (or that is
    not finite) goes into `faults`, unless it is there already.
    """
    dtype = dtype_of(spec.dtype)
    if dtype.is_floating_point:
        return finite(values, dtype, lambda at: where(spec.name, at), faults)
    low, high = (0, 1) if dtype == torch.bool else _range(dtype)
    good = whole(values, low, high)
    wanted = f"not a whole number from {low} to {high}"
    for row, at in misfits(good):
        value = values.reshape(len(values), -1)[row, at]
        faults.setdefault(row, f"{where(spec.name, at)} is {value}, {wanted}")
    return integers(values, good).to(dtype)


def finite(
    values: Values, dtype: torch.dtype, where: Callable[[int], str], faults: dict[int, str]
) -> Tensor:
    """Numbers `[n, ...]` as floats of a type; rows that are not finite in it go into `faults`."""
    made = torch.from_numpy(values).to(dtype)
    good = torch.isfinite(made)
    if good.all():
        return made
    for row, at in misfits(good.numpy()):
        value = values.reshape(len(values), -1)[row, at]
        name = str(dtype).removeprefix("torch.")
        why = f"too large for {name}" if np.isfinite(value) else "not finite"
        faults.setdefault(row, f"{where(at)} is {value}, {why}")
    return made


def whole(values: Values, low: int, high: int) -> NDArray[np.bool_]:
    """Which numbers are whole and from `low` to `high`."""
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return (values >= low) & (values <= high)
    # high + 1 is exact in floats where high, 2**63 - 1, is not
    good: NDArray[np.bool_] = np.floor(values) == values
    return good & (values >= low) & (values < float(high + 1))


def integers(values: Values, good: NDArray[np.bool_]) -> Tensor:
    """int64, with 0 for what is not good."""
    return torch.from_numpy(np.where(good, values, np.zeros((), values.dtype)).astype(np.int64))


def misfits(good: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Pairs (row, place in it of the first value) of the rows that are not all good."""
    if good.all():
        return
    flat = good.reshape(len(good), -1)
    rows = np.flatnonzero(~flat.all(1))
    yield from zip(rows.tolist(), flat[rows].argmin(1).tolist(), strict=True)


def group_names(values: Values, name: str, faults: dict[int, str]) -> list[str]:
    """Text `[n]`; rows without one go into `faults`."""
    names = [_text(value) for value in values]
    for row, text in enumerate(names):
        if not text:
            faults.setdefault(row, f"group {name!r} is missing")
    return names


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return str(value).strip()


def _range(dtype: torch.dtype) -> tuple[int, int]:
    info = torch.iinfo(dtype)
    return info.min, info.max
