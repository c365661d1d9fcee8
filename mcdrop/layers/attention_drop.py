"""The attention-based drop layer: hides the most telling part of an image, or stresses it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop.arguments import fraction
from mcdrop.errors import InputError
from mcdrop.layers.noise import uniform_like
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn


class AttentionDropLayer(nn.Module):
    r"""Multiplies a feature map by a drop mask or by an importance map, one of them at random.

    With the self-attention :math:`a`, the mean over channels,

    .. math:: y = x \odot \begin{cases}
              \mathbf 1[a < \gamma \max a] & \text{with probability } p \\
              \sigma(a) & \text{otherwise} \end{cases}

    which of them is drawn for each row. In evaluation the identity. Neither map has a mean of one:
    this regularises, and its samples do not vary around the deterministic pass.

    Shapes: `[B, C, H, W]`, and the same.

    Args:
        p: probability of the drop mask.
        gamma: share of the largest attention above which a place is hidden.

    Raises:
        InputError: `p` or `gamma` is no number from 0 to 1, or the input is no feature map.

    Source: Choe & Shim 2019, "Attention-based dropout layer for weakly supervised object
    localization", section 3; there a batch shares the choice, and p is 0.75.

    Example:
        >>> layer = AttentionDropLayer(p=1.0, gamma=0.8)
        >>> layer(torch.tensor([[[[1.0, 2.0, 4.0]]]])).tolist()
        [[[[1.0, 2.0, 0.0]]]]
    """

    def __init__(self, p: float = 0.75, gamma: float = 0.8) -> None:
        super().__init__()
        self.p = checked_rate(p)
        self.gamma = fraction("gamma", gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Hide, or stress."""
        if x.ndim != 4:
            raise InputError(f"AttentionDropLayer takes [B, C, H, W]; got {x.ndim} axes")
        if not self.training:
            return x
        attention = x.mean(1, keepdim=True)
        largest = attention.amax((2, 3), keepdim=True)
        shown = (attention < self.gamma * largest).to(x.dtype)
        noise = uniform_like(attention[:, :, :1, :1])
        chosen = torch.where(noise < self.p, shown, torch.sigmoid(attention))
        return drawn(x * chosen, x, noise, "attention_drop", self.p)

    def extra_repr(self) -> str:
        """The chance of a drop mask, and what it hides."""
        return f"p={self.p}, gamma={self.gamma}"
