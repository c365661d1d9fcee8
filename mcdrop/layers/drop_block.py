"""DropBlock: squares of a feature map at a time."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import integer
from mcdrop.errors import InputError
from mcdrop.layers.noise import uniform_like
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn


class DropBlock(nn.Module):
    r"""Drops squares of each channel, so that what they hold cannot be told from their neighbours.

    A square of `block_size` begins at each place where it fits with probability

    .. math:: \gamma = \frac{p}{s^2} \cdot \frac{H W}{(H - s + 1)(W - s + 1)},

    and what is kept of a row is scaled by the share of the row that is. Where squares overlap, a
    little less than p is dropped. In evaluation the identity.

    Shapes: `[B, C, H, W]`, and the same.

    Args:
        p: share of the elements to drop.
        block_size: s, the side of a square; no longer than those of the map, or cut to them.

    Raises:
        InputError: `p` is no probability, or the input is no batch of feature maps.

    Source: Ghiasi, Lin & Le 2018, "DropBlock: a regularization method for convolutional networks",
    algorithm 1.

    Example:
        >>> import torch
        >>> y = DropBlock(0.2, block_size=3)(torch.ones(2, 4, 8, 8))
        >>> round(y.mean().item(), 3)  # what is kept is scaled by its share
        1.0
    """

    def __init__(self, p: float = 0.1, block_size: int = 7) -> None:
        super().__init__()
        self.p = checked_rate(p, below_one=True)
        self.block_size = integer("block_size", block_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Drop squares."""
        if x.ndim != 4:
            raise InputError(f"DropBlock takes [B, C, H, W]; got {x.ndim} axes")
        if not self.training or self.p == 0.0:
            return x
        height, width = x.shape[2:]
        if not height or not width:
            return x
        s = min(self.block_size, height, width)
        tall, wide = height - s + 1, width - s + 1
        noise = uniform_like(x[:, :, :tall, :wide])  # by the upper left corner
        gamma = self.p / s**2 * (height * width) / (tall * wide)
        begins = (noise < gamma).to(x.dtype)
        dropped = F.max_pool2d(F.pad(begins, [s - 1] * 4), s, stride=1)
        kept = 1.0 - dropped
        share = kept.mean((1, 2, 3), keepdim=True)
        # of a row of which nothing is left, nothing is made
        scaled = x * kept / share.clamp_min(1.0 / math.prod(kept.shape[1:]))
        return drawn(scaled, x, noise, "drop_block", self.p)

    def extra_repr(self) -> str:
        """The rate and the side of a square."""
        return f"p={self.p}, block_size={self.block_size}"
