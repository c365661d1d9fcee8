"""Uniform noise of layers that compare it with rates: fine enough for small rates, in any type."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_like(x: Tensor) -> Tensor:
    """Numbers from 0 to below 1 of the shape of x, in float32 where x has fewer digits.

    In bfloat16 there would be 256 of them, and no rate below 1/256.
    """
    return torch.rand_like(x, dtype=wide(x.dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which rates are computed for values of a type: float32 at least."""
    return torch.promote_types(dtype, torch.float32)
