"""Attention-based dropout: what matters is kept more often."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop.arguments import fraction
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn


class AttentionDropout(nn.Module):
    r"""Drops units the less often, the more important they are among their neighbours.

    With the n units along an axis ranked by importance, the least important one first,

    .. math:: p_i = p + s \min(p, 1 - p) \left(1 - \frac{2 r_i + 1}{n}\right), \quad
              r_i = 0, \dots, n - 1; \qquad
              y_i = \frac{x_i\, m_i}{1 - p_i}, \quad m_i \sim \mathrm{Bern}(1 - p_i)

    The mean of the rates is p, whatever the importances are. Gradients take the rates for given.
    In evaluation the identity.

    Shapes: any, and the same. Behind a softmax of attention, `[B, H, L, M]` with `dim=-1`.

    Args:
        p: mean probability to drop.
        strength: s, from 0 (all alike) to 1: how far the rates are apart.
        dim: the axis along which units are ranked.

    Raises:
        InputError: `p` or `strength` is no number from 0 to 1.

    Source: after Zehui et al. 2019, "DropAttention: a regularization method for fully-connected
    self-attention networks", and Choe & Shim 2019: rates that follow attention. Ranks in place of
    the scores keep the mean rate.

    Example:
        >>> layer = AttentionDropout(0.3, strength=1.0)
        >>> [round(rate, 1) for rate in layer.rates(torch.tensor([0.1, 4.0, 2.0])).tolist()]
        [0.5, 0.1, 0.3]
    """

    def __init__(self, p: float = 0.1, strength: float = 0.5, dim: int = -1) -> None:
        super().__init__()
        self.p = checked_rate(p, below_one=True)
        self.strength = fraction("strength", strength)
        self.dim = dim

    def rates(self, importance: Tensor) -> Tensor:
        """Of each unit, its probability to be dropped; of the shape of the importances."""
        ranks = importance.argsort(stable=True, dim=self.dim).argsort(self.dim)
        below = (2.0 * ranks.to(importance.dtype) + 1.0) / importance.shape[self.dim]
        rates: Tensor = self.p + self.strength * min(self.p, 1.0 - self.p) * (1.0 - below)
        return rates

    def forward(self, x: Tensor, importance: Tensor | None = None) -> Tensor:
        """Drop.

        Args:
            x: the units.
            importance: of each, of the same shape; by default its size, `|x|`, which for weights
                of attention is their score.
        """
        if not self.training or self.p == 0.0:
            return x
        kept = 1.0 - self.rates((x.abs() if importance is None else importance).detach())
        noise = torch.rand_like(x)
        return drawn(x * (noise < kept).to(x.dtype) / kept, x, noise, "importance", self.p)

    def extra_repr(self) -> str:
        """The mean rate, how far rates are apart, and the axis."""
        return f"p={self.p}, strength={self.strength}, dim={self.dim}"
