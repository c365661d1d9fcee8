"""Checking what a caller passes against the inputs that a program declares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import cast, get_args

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.program.manifest import DType, TensorSpec

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def dtype_name(dtype: torch.dtype) -> DType:
    """`"float32"` for `torch.float32`.

    Raises:
        InputError: a program's inputs and outputs cannot have this type.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in get_args(DType):
        raise InputError(f"inputs and outputs have one of {', '.join(get_args(DType))}; got {name}")
    return cast("DType", name)


def dtype_of(name: str) -> torch.dtype:
    """`torch.float32` for `"float32"`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def describe(spec: TensorSpec) -> str:
    """A spec for error messages.

    Example:
        >>> describe(TensorSpec(name="x", dtype="float32", shape=(None, 8)))
        "'x' float32 [B, 8]"
    """
    axes = ["B" if i == 0 else _axis(spec, i) for i in range(len(spec.shape))]
    return f"{spec.name!r} {spec.dtype} [{', '.join(axes)}]"


def _axis(spec: TensorSpec, axis: int) -> str:
    size = spec.shape[axis]
    if size is not None:
        return str(size)
    low, high = spec.ranges.get(axis, (1, 0))
    return f"{low} to {high}" if high else "any"


def checked(specs: Sequence[TensorSpec], x: Inputs, device: torch.device) -> dict[str, Tensor]:
    """The inputs by name, on `device`, after checking names, types, shapes and finite values.

    Raises:
        InputError: something does not fit; nothing is converted silently.
    """
    tensors = _named(specs, x)
    rows: dict[str, int] = {}
    for spec in specs:
        tensor = tensors[spec.name]
        _check_tensor(spec, tensor)
        rows[spec.name] = tensor.shape[0]
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise InputError(f"all inputs must have the same number of rows (axis 0); {counts}")
    return {name: _placed(tensor, device) for name, tensor in tensors.items()}


def _placed(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without a history: only what is needed, as small nets notice every step."""
    tensor = tensor.detach() if tensor.requires_grad else tensor
    return tensor if tensor.device == device else tensor.to(device)


def _named(specs: Sequence[TensorSpec], x: Inputs) -> dict[str, Tensor]:
    names = [spec.name for spec in specs]
    if isinstance(x, Tensor):
        x = (x,)
    if isinstance(x, Mapping):
        if set(x) != set(names):
            raise InputError(f"expected inputs {_described(specs)}; got {sorted(x)}")
        return {name: x[name] for name in names}
    if not isinstance(x, Sequence) or len(x) != len(names):
        got = f"{len(x)} tensors" if isinstance(x, Sequence) else type(x).__name__
        raise InputError(
            f"expected {_described(specs)}, as a tensor, a tuple or a dict of tensors; got {got}"
        )
    return dict(zip(names, x, strict=True))


def _described(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(describe(spec) for spec in specs)


def _check_tensor(spec: TensorSpec, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise InputError(f"expected {describe(spec)} as a tensor; got {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise InputError(
            f"expected {describe(spec)} as an ordinary tensor; got a sparse or meta tensor"
        )
    fault = _fault(spec, tensor)
    if fault:
        raise InputError(f"expected {describe(spec)}{fault}")
    # one number tells; but a sum of large ones can overflow, and then every value is looked at
    if tensor.is_floating_point() and not math.isfinite(tensor.sum().item()):
        bad = ~torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else ~tensor.isfinite()
        if bad.any():
            rows = bad.nonzero().flatten().tolist()
            raise InputError(
                f"input {spec.name!r} has values that are not finite (NaN or infinite) in "
                f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:10]))}"
                f"{' and others' if len(rows) > 10 else ''}: drop or impute them"
            )


def _fault(spec: TensorSpec, tensor: Tensor) -> str:
    """What is wrong with a tensor's type or shape, as the end of a sentence; empty for nothing."""
    if tensor.dtype != dtype_of(spec.dtype):
        return f"; got {_got(tensor)}: convert it with x.to(torch.{spec.dtype})"
    if tensor.ndim != len(spec.shape):
        alone = tensor.ndim == len(spec.shape) - 1
        hint = ": a single row needs a batch axis, x[None]" if alone else ""
        return f"; got {_got(tensor)}{hint}"
    if tensor.shape[0] == 0:
        return f" with at least one row; got {_got(tensor)}"
    for axis, (size, have) in enumerate(zip(spec.shape, tensor.shape, strict=True)):
        low, high = spec.ranges.get(axis, (have, have))
        if (size is not None and size != have) or not low <= have <= high:
            return f"; got {_got(tensor)}: axis {axis} does not fit"
    return ""


def _got(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


_LOOKUPS = ("out of bounds", "out of range", "Class values must be")


class LookupErrors:
    """Turns an index out of range, which only running the model can find, into an InputError."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise in the place of an error that tells of a lookup."""
        if not isinstance(error, IndexError | RuntimeError):
            return
        if isinstance(error, IndexError) or any(sign in str(error) for sign in _LOOKUPS):
            raise InputError(
                f"an integer input is outside of what the model can look up: {error}"
            ) from error
