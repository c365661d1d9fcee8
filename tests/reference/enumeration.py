"""Exact moments of a small network under dropout: every mask there is. Imports nothing of ours."""

from __future__ import annotations

from itertools import product
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Weighted = tuple[float, tuple[int, ...]]


class _Masks:
    """Stands for `F.dropout`: the i-th call of a pass gets the i-th stretch of the bits."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.rates: list[float] = []
        self.bits: tuple[int, ...] = ()
        self.used = 0

    def __call__(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training:
            return x
        shape = (1, *x.shape[1:]) if x.shape[0] == self.rows else tuple(x.shape)
        size = int(np.prod(shape))
        if not self.bits:
            self.rates += [p] * size
            return x
        kept = torch.tensor(self.bits[self.used : self.used + size], dtype=x.dtype).reshape(shape)
        self.used += size
        mask = kept / (1 - p) if p < 1 else torch.zeros_like(kept)
        return x.mul_(mask) if inplace else x * mask


def masks(rates: list[float]) -> list[Weighted]:
    """Every mask that is possible, 1 where a unit is kept, with its probability."""
    possible = [[(p, 0)] * (p > 0) + [(1 - p, 1)] * (p < 1) for p in rates]
    return [
        (float(np.prod([chance for chance, _ in picked])), tuple(kept for _, kept in picked))
        for picked in product(*possible)
    ]


def moments(module: nn.Module, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a module's output over all masks of its `F.dropout`s, in float64.

    Args:
        module: its drop-outs act on tensors with rows in axis 0, or on weights.
        x: `[B, ...]`; no weight's axis 0 may have B elements. Rows share the masks.
    """
    module = module.double().train()
    drawn = _Masks(len(x))
    first, second, total = 0.0, 0.0, 0.0
    with torch.no_grad(), patch.object(F, "dropout", drawn):
        centre = module(x.double()).numpy()  # so that small variances of large values survive
        for chance, bits in masks(drawn.rates):
            drawn.bits, drawn.used = bits, 0
            y = module(x.double()).numpy() - centre
            first, second, total = first + chance * y, second + chance * y**2, total + chance
    assert abs(total - 1) < 1e-12
    return first + centre, second - first**2
