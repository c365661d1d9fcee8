"""Head dropout: whole heads of attention at a time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import integer
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class HeadDropout(nn.Module):
    r"""Drops the output of whole attention heads, for each row alone.

    .. math:: y_{bh\cdot\cdot} = \frac{x_{bh\cdot\cdot}\, m_{bh}}{1 - p}, \quad
              m_{bh} \sim \mathrm{Bern}(1 - p)

    To be put between the heads and the projection that mixes them. In evaluation the identity.

    Shapes: `[B, H, L, D]`, or `[B, L, H·D]` with the heads side by side; and the same.

    Args:
        heads: H.
        p: probability to drop a head.

    Raises:
        InputError: `p` is no probability, or the input has not so many heads.

    Source: Zhou et al. 2020, "Scheduled DropHead: a regularization method for transformer models".

    Example:
        >>> import torch
        >>> y = HeadDropout(3, p=0.5)(torch.ones(4, 7, 6))
        >>> bool((y[:, :, ::2] == y[:, :1, 1::2]).all())  # a head of two, at all seven places
        True
    """

    def __init__(self, heads: int, p: float = 0.1) -> None:
        super().__init__()
        self.heads = integer("heads", heads, 1)
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop heads."""
        apart = x.ndim == 4 and x.shape[1] == self.heads
        beside = x.ndim == 3 and x.shape[2] % self.heads == 0
        if not (apart or beside):
            raise InputError(
                f"HeadDropout takes [B, {self.heads}, L, D], or [B, L, F] with F a multiple of "
                f"{self.heads} heads; got shape {list(x.shape)}"
            )
        if not self.training or self.p == 0.0:
            return x
        if apart:
            return x * F.dropout(x.new_ones((x.shape[0], self.heads, 1, 1)), self.p)
        mask = F.dropout(x.new_ones((x.shape[0], 1, self.heads)), self.p)
        return x * mask.repeat_interleave(x.shape[2] // self.heads, 2)

    def extra_repr(self) -> str:
        """Heads and rate."""
        return f"heads={self.heads}, p={self.p}"
