"""Laws: from uniform words to masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mcdrop.program.site import Law
from mcdrop.sampling.stream import Words

_SCALE_24 = 2.0**-24
_SCALE_32 = 2.0**-32


def draw(law: Law, words: Words) -> Tensor:
    """Masks from uniform words, elementwise: float32 of the same shape.

    - Bernoulli: dropped where the word is below p·2³², so the rate is exact to 2⁻³².
    - uniform: the upper 24 bits, on [0, 1), as `torch.rand` gives them.
    - normal: the inverse distribution function at the middle of the word's cell.
    """
    if law.kind == "bernoulli":
        threshold = round(law.p * 2.0**32)
        if threshold >= 2**32:
            return torch.zeros(words.shape)
        kept = torch.from_numpy(words >= np.uint32(threshold))
        return kept.to(torch.float32).mul_(law.scale)
    if law.kind == "uniform":
        return torch.from_numpy((words >> np.uint32(8)).astype(np.float32)).mul_(_SCALE_24)
    middle = torch.from_numpy((words.astype(np.float64) + 0.5) * _SCALE_32)
    normal: Tensor = torch.special.ndtri(middle)
    return normal.to(torch.float32)
