"""Variational dropout: Gaussian dropout whose variances are learned."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import integer, one_of
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn

Per = Literal["weight", "unit", "layer"]
# Kingma, Salimans & Welling 2015, equation 14
_C1, _C2, _C3 = 1.16145124, -1.50204118, 0.58629921
TINY = 1e-12  # a variance of which the root has a gradient


class VariationalDropout(nn.Linear):
    r"""A linear layer whose weights are Gaussian, with variances in proportion to their squares.

    .. math:: w_{ij} \sim \mathcal N(\theta_{ij}, \alpha_{ij}\,\theta_{ij}^2), \qquad
              y \sim \mathcal N\!\left(x \theta^{\mathsf T} + b,\;
              x^2 (\alpha \odot \theta^2)^{\mathsf T}\right)

    y is drawn instead of the weights (local reparameterisation): gradients vary less. The loss, a
    negative log-likelihood averaged over rows, is to have `mcdrop.regularization(model)` added to
    it: the divergence from the log-uniform prior for each of N rows, with :math:`\alpha \le 1`,

    .. math:: \frac{D_{KL}}{N} \approx -\frac1N \sum_{ij} \tfrac12 \log \alpha_{ij} +
              c_1 \alpha_{ij} + c_2 \alpha_{ij}^2 + c_3 \alpha_{ij}^3

    up to a constant. In evaluation :math:`x \theta^{\mathsf T} + b`.

    With shared masks, all rows of a sample share the noise of each output: the spread of every row
    is right, but a sample is no single function, as drawn weights would be.

    Shapes: `[..., in_features]` to `[..., out_features]`.

    Args:
        in_features: as of `nn.Linear`.
        out_features: as of `nn.Linear`.
        bias: as of `nn.Linear`.
        rows: N, of the training set.
        p: rate of the dropout whose alpha = p/(1 - p) it begins with; at most 0.5.
        per: what has an alpha of its own: each `"weight"`, each input `"unit"`, or the `"layer"`.

    Raises:
        InputError: `p` is no probability from 0 to 0.5, or `per` is another word.

    Source: Kingma, Salimans & Welling 2015, "Variational dropout and the local
    reparameterization trick", sections 3.2 and 4, equation 14.

    Example:
        >>> layer = VariationalDropout(4, 8, rows=100, p=0.2, per="unit")
        >>> layer(torch.randn(3, 4)).shape, layer.alpha().shape
        (torch.Size([3, 8]), torch.Size([1, 4]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rows: int,
        p: float = 0.2,
        per: Per = "weight",
    ) -> None:
        super().__init__(in_features, out_features, bias)
        one_of("per", per, ("weight", "unit", "layer"))
        rate = checked_rate(p, most=0.5, above_zero=True)
        shape = {"weight": (out_features, in_features), "unit": (1, in_features), "layer": (1, 1)}
        self.per = per
        self.rows = integer("rows", rows, 1)
        self.log_alpha = nn.Parameter(torch.full(shape[per], math.log(rate / (1.0 - rate))))

    def alpha(self) -> Tensor:
        """Variances over squared means, at most 1: `[out, in]`, `[1, in]` or `[1, 1]`."""
        return self.log_alpha.clamp(max=0.0).exp()

    def forward(self, x: Tensor) -> Tensor:
        """Draw the outputs."""
        mean = F.linear(x, self.weight, self.bias)
        if not self.training:
            return mean
        variance = F.linear(x.square(), self.alpha() * self.weight.square())
        noise = torch.randn_like(mean)
        return drawn(mean + (variance + TINY).sqrt() * noise, mean, noise, "variational")

    def regularization(self) -> Tensor:
        """The divergence of all weights from the prior, in nats a row, up to a constant."""
        log_alpha = self.log_alpha.clamp(max=0.0)
        alpha = log_alpha.exp()
        each = -(0.5 * log_alpha + _C1 * alpha + _C2 * alpha**2 + _C3 * alpha**3)
        return each.sum() * (self.weight.numel() / each.numel() / self.rows)

    def extra_repr(self) -> str:
        """The sizes, and what has a rate of its own."""
        return f"{super().extra_repr()}, rows={self.rows}, per={self.per!r}"
