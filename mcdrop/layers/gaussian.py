"""Gaussian dropout: multiplied by noise around one, instead of by zero or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn


class GaussianDropout(nn.Module):
    r"""Multiplies each element by noise that has the variance of dropout's mask.

    .. math:: y = x\,(1 + \sqrt\alpha\,\varepsilon), \quad \varepsilon \sim \mathcal N(0, 1), \quad
              \alpha = \tfrac{p}{1 - p}; \qquad
              \mathbb E\,y = x, \quad \operatorname{Var} y = \alpha\,x^2

    In evaluation the identity.

    Shapes: any, and the same.

    Args:
        p: the rate of the dropout whose variance it has, below 1.

    Raises:
        InputError: `p` is no probability below 1.

    Source: Srivastava et al. 2014, section 10; Wang & Manning 2013, "Fast dropout training".

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> y = GaussianDropout(0.2)(torch.ones(100_000))
        >>> round(y.mean().item(), 2), round(y.var().item(), 2)
        (1.0, 0.25)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = checked_rate(p, below_one=True)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by noise."""
        if not self.training or self.p == 0.0:
            return x
        noise = torch.randn_like(x)
        return drawn(
            x * (1.0 + math.sqrt(self.p / (1.0 - self.p)) * noise), x, noise, "gaussian", self.p
        )

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"
