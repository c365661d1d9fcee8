"""Variational dropout: Gaussian dropout whose variances are learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import flag, integer, one_of
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
        InputError: `p` is no probability up to 0.5, `per` is another word, or a size no integer.

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
        sizes = integer("in_features", in_features, 1), integer("out_features", out_features, 1)
        super().__init__(*sizes, flag("bias", bias))
        one_of("per", per, ("weight", "unit", "layer"))
        rate = checked_rate(p, most=0.5, above_zero=True)
        shape = {"weight": sizes[::-1], "unit": (1, sizes[0]), "layer": (1, 1)}
        self.per = per
        self.rows = integer("rows", rows, 1)
        self.log_alpha = nn.Parameter(torch.full(shape[per], math.log(rate / (1.0 - rate))))

    def alpha(self) -> Tensor:
        """Variances over squared means, at most 1: `[out, in]`, `[1, in]` or `[1, 1]`."""
        return _at_most_zero(self.log_alpha).exp()

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
        log_alpha = _at_most_zero(self.log_alpha)
        alpha = log_alpha.exp()
        each = -(0.5 * log_alpha + _C1 * alpha + _C2 * alpha**2 + _C3 * alpha**3)
        return each.sum() * (self.weight.numel() / each.numel() / self.rows)

    def extra_repr(self) -> str:
        """The sizes, and what has a rate of its own."""
        return f"{super().extra_repr()}, rows={self.rows}, per={self.per!r}"


class _AtMostZero(torch.autograd.Function):
    """What is above zero becomes zero; a gradient that leads back below it passes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(max=0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], _: Tensor) -> None:
        """Keep what was above zero."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where((x > 0.0) & (gradient < 0.0), 0.0, gradient)


_at_most_zero: Callable[[Tensor], Tensor] = _AtMostZero.apply
