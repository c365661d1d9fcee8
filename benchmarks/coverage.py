"""Whether a side samples all that the model's dropout asks for, by measurement.

Three signs: the random numbers that it draws, counted on the CPU; the variance that it finds; and
how far its mean lies from the naive loop's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_DRAWING = ("bernoulli", "bernoulli_", "native_dropout", "rand", "rand_like", "uniform_")
# A right side's figures stray by a few per cent. A site that matters, left out, or BatchNorm in
# train mode moves them further.
_VARIANCES = (0.8, 1.25)
_OFFSET = 2.0


class Draws(TorchDispatchMode):
    """Counts the random numbers that dropout draws while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run the op, and look at what came out of it."""
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in _DRAWING:
            drawn: Tensor = out[0] if isinstance(out, tuple) else out
            self.count += drawn.numel()
        return out


def draws(run: Callable[[Tensor], object], x: Tensor) -> int:
    """Random numbers drawn for one answer, on the CPU: elsewhere fused kernels draw their own."""
    with torch.no_grad(), Draws() as counted:
        run(x)
    return counted.count


def note(drawn: float, variance: float, offset: float) -> str:
    """What a side misses; empty where it misses nothing.

    Args:
        drawn: its random numbers, as a share of the naive loop's.
        variance: its mean variance, as a share of the naive loop's.
        offset: root mean square distance of its mean from the naive loop's, in standard errors.

    Example:
        >>> note(1.0, 1.03, 1.1), note(0.0, 0.0, 0.7)
        ('', 'samples nothing: all its passes are equal')
        >>> note(0.03, 0.9, 1.1)
        'draws 3% of the random numbers: some sites are not sampled; variance 0.90 of the right one'
    """
    if drawn == 0.0:
        return "samples nothing: all its passes are equal"
    found = []
    if drawn < 0.999:
        found.append(f"draws {drawn:.0%} of the random numbers: some sites are not sampled")
    if found or not _VARIANCES[0] <= variance <= _VARIANCES[1]:
        found.append(f"variance {variance:.2f} of the right one")
    if offset > _OFFSET:
        found.append(f"mean off by {offset:.1f} standard errors")
    return "; ".join(found)
