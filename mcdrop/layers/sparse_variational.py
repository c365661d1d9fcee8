"""Sparse variational dropout: weights that are all noise are left out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import finite, flag, integer
from mcdrop.layers.variational import TINY
from mcdrop.program.drawn import drawn

# Molchanov, Ashukha & Vetrov 2017, equation 14
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_LOG_ALPHAS = (-20.0, 20.0)  # beyond, nothing changes but rounding


class SparseVariationalDropout(nn.Linear):
    r"""A linear layer whose weights are Gaussian, each with a variance of its own.

    .. math:: w_{ij} \sim \mathcal N(\theta_{ij}, \sigma_{ij}^2), \qquad
              \alpha_{ij} = \sigma_{ij}^2 / \theta_{ij}^2, \qquad
              y \sim \mathcal N\!\left(x \theta^{\mathsf T} + b,\; x^2 (\sigma^2)^{\mathsf T}\right)

    Alpha may grow without bound, and does where a weight is not needed: those with
    :math:`\log \alpha` of `threshold` or more are left out in evaluation. The loss, a negative
    log-likelihood averaged over N rows, is to have `mcdrop.regularization(model)` added to it:

    .. math:: \frac{D_{KL}}{N} \approx \frac1N \sum_{ij} \Bigl(
              k_1 - k_1\,\sigma(k_2 + k_3 \log \alpha_{ij})
              + \tfrac12 \log(1 + \alpha_{ij}^{-1})\Bigr)

    Shapes: `[..., in_features]` to `[..., out_features]`.

    Args:
        in_features: as of `nn.Linear`.
        out_features: as of `nn.Linear`.
        bias: as of `nn.Linear`.
        rows: N, of the training set.
        log_sigma2: logarithm of the variances to begin with.
        threshold: of log alpha; 3 is a rate above 0.95.

    Raises:
        InputError: a size is no positive integer, or another number is not finite.

    Source: Molchanov, Ashukha & Vetrov 2017, "Variational dropout sparsifies deep neural
    networks", equations 11 to 14.

    Example:
        >>> layer = SparseVariationalDropout(4, 8, rows=100)
        >>> layer(torch.randn(3, 4)).shape, layer.sparsity() < 0.2
        (torch.Size([3, 8]), True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rows: int,
        log_sigma2: float = -10.0,
        threshold: float = 3.0,
    ) -> None:
        sizes = integer("in_features", in_features, 1), integer("out_features", out_features, 1)
        super().__init__(*sizes, flag("bias", bias))
        self.rows = integer("rows", rows, 1)
        self.threshold = finite("threshold", threshold)
        first = finite("log_sigma2", log_sigma2)
        self.log_sigma2 = nn.Parameter(torch.full((sizes[1], sizes[0]), first))

    def log_alpha(self) -> Tensor:
        """Logarithms of the variances over squared means, `[out, in]`."""
        size = torch.log(self.weight.square() + TINY)
        return (self.log_sigma2 - size).clamp(*_LOG_ALPHAS)

    def sparsity(self) -> float:
        """The share of weights that are left out in evaluation."""
        with torch.no_grad():
            return float((self.log_alpha() >= self.threshold).float().mean())

    def forward(self, x: Tensor) -> Tensor:
        """Draw the outputs, or leave out what is noise."""
        if not self.training:
            return self._evaluated(x)
        mean = F.linear(x, self.weight, self.bias)
        variance = F.linear(x.square(), self.log_sigma2.exp())
        noise = torch.randn_like(mean)
        noisy = mean + (variance + TINY).sqrt() * noise
        if not torch.compiler.is_exporting():
            return noisy
        return drawn(noisy, self._evaluated(x), noise, "variational")

    def _evaluated(self, x: Tensor) -> Tensor:
        kept = torch.where(self.log_alpha() < self.threshold, self.weight, 0.0)
        return F.linear(x, kept, self.bias)

    def regularization(self) -> Tensor:
        """The divergence of all weights from the log-uniform prior, in nats a row."""
        log_alpha = self.log_alpha()
        rest = 0.5 * F.softplus(-log_alpha)
        return (_K1 - _K1 * torch.sigmoid(_K2 + _K3 * log_alpha) + rest).sum() / self.rows

    def extra_repr(self) -> str:
        """The sizes and the threshold."""
        return f"{super().extra_repr()}, rows={self.rows}, threshold={self.threshold}"
