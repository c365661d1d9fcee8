"""Attention-based dropout: what matters is kept more often."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop.arguments import fraction, integer
from mcdrop.errors import InputError
from mcdrop.layers.noise import uniform_like
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn


class AttentionDropout(nn.Module):
    r"""Drops units the less often, the more important they are among their neighbours.

    With the n units along an axis ranked by importance, the least important one first,

    .. math:: p_i = p + s \min(p, 1 - p) \left(1 - \frac{2 r_i + 1}{n}\right), \quad
              r_i = 0, \dots, n - 1; \qquad
              y_i = \frac{x_i\, m_i}{1 - p_i}, \quad m_i \sim \mathrm{Bern}(1 - p_i)

    The mean of the rates is p, whatever the importances are; units that are alike have the mean of
    their ranks, and the same rate. Gradients take the rates for given.
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
        self.dim = integer("dim", dim)

    def rates(self, importance: Tensor) -> Tensor:
        """Of each unit, its probability to be dropped; of the shape of the importances."""
        dim = self._axis(importance)
        return self._rates(_standing(importance, dim), importance.shape[dim])

    def forward(self, x: Tensor, importance: Tensor | None = None) -> Tensor:
        """Drop.

        Args:
            x: the units.
            importance: of each, of the same shape; by default its size, `|x|`, which for weights
                of attention is their score. Units that are 0 (behind a ReLU, or where attention is
                masked) have nothing to lose: then they are not ranked, and p is the mean of the
                others.

        Raises:
            InputError: the importances have another shape, or there is no such axis.
        """
        if importance is not None and importance.shape != x.shape:
            raise InputError(
                f"importance must have the shape of x, {list(x.shape)}; got "
                f"{list(importance.shape)}"
            )
        dim = self._axis(x)
        if not self.training or self.p == 0.0:
            return x
        if importance is None:
            size = x.detach().abs()
            zeros = (size == 0).sum(dim, keepdim=True)
            units = x.shape[dim] - zeros
            rates = self._rates(_standing(size, dim) - 2 * zeros, units.clamp_min(1))
            kept = 1.0 - torch.where(size == 0, self.p, rates)
        else:
            kept = 1.0 - self.rates(importance.detach())
        noise = uniform_like(x)
        # what is never kept is divided by something, too, or its gradient would not be a number
        scaled = x / kept.clamp_min(torch.finfo(kept.dtype).tiny)
        noisy = torch.where(noise < kept, scaled, 0.0).to(x.dtype)
        return drawn(noisy, x, noise, "importance", self.p)

    def _rates(self, standing: Tensor, units: Tensor | int) -> Tensor:
        spread = self.strength * min(self.p, 1.0 - self.p)
        rates: Tensor = self.p + spread * (1.0 - standing.to(torch.float32) / units)
        return rates

    def _axis(self, x: Tensor) -> int:
        if not -x.ndim <= self.dim < x.ndim:
            raise InputError(f"there is no axis {self.dim} along which to rank {list(x.shape)}")
        return self.dim % x.ndim

    def extra_repr(self) -> str:
        """The mean rate, how far rates are apart, and the axis."""
        return f"p={self.p}, strength={self.strength}, dim={self.dim}"


def _standing(importance: Tensor, dim: int) -> Tensor:
    """How many units are below each, twice, and how many are as high: 2 r + 1 of its mean rank."""
    rising = importance.argsort(stable=True, dim=dim).argsort(dim)
    falling = importance.argsort(stable=True, dim=dim, descending=True).argsort(dim)
    # where some are alike, one order has the first of them first and the other one last
    return importance.shape[dim] + rising - falling
