"""Linear layers whose weights lie as the CPU's products read them: packed once, used often.

A product of few rows spends much of its time on bringing the weights into the order in which the
cores read them. oneDNN takes weights that are in it; torch's own compiler uses the two operations
below for that, and they have no public name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 32  # for about how many rows a layout is chosen
_FEW_UNITS = 15  # of an output: finding a compiled product takes longer than one of torch's does


@cache
def can_pack() -> bool:
    """Whether this torch and this processor have packed products, tried on a small one."""
    if not torch.backends.mkldnn.is_available():
        return False
    x = torch.arange(-7.0, 8.0).view(3, 5)  # drawn numbers would be missing in the caller's stream
    weight = torch.arange(-49.0, 51.0).view(5, 20)
    try:
        with torch.no_grad():
            found = packed_linear(x, packed(weight), None, "relu")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(found, (x @ weight).relu(), atol=1e-5)


def packed(weight: Tensor) -> Tensor:
    """A float32 matrix `[I, O]`, opaque to all but `packed_linear`."""
    if weight.shape[1] <= _FEW_UNITS:
        return weight.t().contiguous()
    made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.t().contiguous(), _ROWS)  # noqa: SLF001
    return made


def packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """`mcdrop.thin_linear` with a packed weight."""
    if not weight.is_mkldnn:
        plain = F.linear(x, weight, bias)
        return plain.relu_() if activation else plain
    made: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        x, weight, bias, activation or "none", [], ""
    )
    return made


def take(x: Tensor, kept: Tensor, held: bool) -> Tensor:  # noqa: ARG001 (rows are read in order)
    """The kept units of axis 1: `[B, F, ...]` to `[B, K, ...]`, laid out as what reads it wants."""
    return x.index_select(1, kept)


PACKED_KERNELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"mcdrop.take": take, "mcdrop.thin_linear": packed_linear}
)
