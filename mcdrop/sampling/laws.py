"""Laws other than drop-out: from uniform levels to noise."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mcdrop.program.site import Law
from mcdrop.sampling.levels import Levels

_SCALE_24 = 2.0**-24
_SCALE_32 = 2.0**-32


def noise(law: Law, levels: Levels) -> Tensor:
    """Noise from levels, elementwise: float32 of the same shape.

    - uniform: the upper 24 bits, on [0, 1), as `torch.rand` gives them.
    - normal: the inverse distribution function at the middle of the level's cell.
    """
    if law.kind == "uniform":
        return torch.from_numpy((levels >> np.uint32(8)).astype(np.float32)).mul_(_SCALE_24)
    assert law.kind == "normal", law
    middle = torch.from_numpy((levels.astype(np.float64) + 0.5) * _SCALE_32)
    normal: Tensor = torch.special.ndtri(middle)
    return normal.to(torch.float32)
