"""Rows to train on and rows held out, for each split, standardised by the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.uci.layout import Numbers, Rows, UciSet
from benchmarks.uci.score import HeldOut

_VALIDATION = 0.2  # of a split's training rows: the last ones


@dataclass(frozen=True, slots=True)
class Part:
    """A split, ready to be trained on.

    Attributes:
        x: training rows, standardised, `[N, d]`.
        y: their targets, standardised, `[N]`.
        held_x: held-out rows, standardised as `x`, `[B, d]`.
        held_y: their targets in their own units, `[B]`.
        mean: of the training targets.
        std: of the training targets.
    """

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor
    mean: float
    std: float


def validation(uci: UciSet) -> list[Part]:
    """Each split's training rows, of which the last fifth is held out; its test rows not used."""
    parts = []
    for train, _ in uci.splits:
        cut = int((1.0 - _VALIDATION) * len(train))
        parts.append(_part(uci, train[:cut], train[cut:]))
    return parts


def test(uci: UciSet) -> list[Part]:
    """Each split's training rows, all of them, and its test rows."""
    return [_part(uci, train, held) for train, held in uci.splits]


def held_out(parts: Sequence[Part]) -> HeldOut:
    """The held-out rows of some nets, given the split of each; all have equally many."""
    return HeldOut(
        x=torch.stack([part.held_x for part in parts], 1),
        y=torch.stack([part.held_y for part in parts], 1),
        mean=torch.tensor([part.mean for part in parts]),
        std=torch.tensor([part.std for part in parts]),
    )


def _part(uci: UciSet, rows: Rows, held: Rows) -> Part:
    x, y = uci.x[rows], uci.y[rows]
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale == 0.0, 1.0, scale)
    mean, std = float(y.mean()), float(y.std()) or 1.0
    return Part(
        x=_tensor((x - centre) / scale),
        y=_tensor((y - mean) / std),
        held_x=_tensor((uci.x[held] - centre) / scale),
        held_y=_tensor(uci.y[held]),
        mean=mean,
        std=std,
    )


def _tensor(values: Numbers) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
