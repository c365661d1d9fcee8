"""Adaptive dropout (standout): a unit is kept the more likely, the more it is needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcdrop.arguments import finite, module
from mcdrop.layers.noise import uniform_like, wide
from mcdrop.program.drawn import drawn


class AdaptiveDropout(nn.Module):
    r"""Keeps each unit with a probability that its own pre-activation sets (standout).

    .. math:: z = W x + b, \quad \pi = \sigma(\alpha z + \beta), \quad
              y = f(z) \odot m, \quad m \sim \mathrm{Bern}(\pi)

    The belief network that sets the probabilities shares the layer's weights, as the authors found
    to work as well as one of its own. Nothing is scaled: in evaluation :math:`y = f(z) \odot \pi`,
    the mean. Gradients take the mask for given.

    Shapes: those of the layer.

    Args:
        layer: gives z; a linear layer or a convolution, for instance.
        activation: f; the identity by default.
        alpha: how much the rate follows the pre-activation; 0 for a rate of its own.
        beta: the bias of the probability.

    Raises:
        InputError: `layer` or `activation` is no module, or a number is not finite.

    Source: Ba & Frey 2013, "Adaptive dropout for training deep neural networks", equations 1 and 2
    and section 3.1.

    Example:
        >>> layer = AdaptiveDropout(nn.Linear(4, 8), nn.ReLU(), alpha=1.0, beta=1.0)
        >>> layer(torch.randn(2, 4)).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        layer: nn.Module,
        activation: nn.Module | None = None,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.layer = module("layer", layer)
        self.activation = module("activation", nn.Identity() if activation is None else activation)
        self.alpha = finite("alpha", alpha)
        self.beta = finite("beta", beta)

    def keep_probability(self, z: Tensor) -> Tensor:
        """Of each unit, by its pre-activation; float32 at least."""
        return torch.sigmoid(self.alpha * z.to(wide(z.dtype)) + self.beta)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer, and drop."""
        z: Tensor = self.layer(x)
        keep = self.keep_probability(z)
        value: Tensor = self.activation(z)
        mean = value * keep.to(value.dtype)
        if not self.training:
            return mean
        noise = uniform_like(keep)
        return drawn(value * (noise < keep).to(value.dtype), mean, noise, "adaptive")

    def extra_repr(self) -> str:
        """What the rate follows."""
        return f"alpha={self.alpha}, beta={self.beta}"
