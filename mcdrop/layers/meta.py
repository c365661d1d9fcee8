"""Meta Dropout: multiplicative noise whose parameters are learned across tasks."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import module
from mcdrop.errors import InputError
from mcdrop.program.drawn import drawn


class MetaDropout(nn.Module):
    r"""Multiplies a layer's output by noise that depends on its input.

    .. math:: y = f_\theta(x) \odot \operatorname{softplus}(g_\phi(x) + \varepsilon), \quad
              \varepsilon \sim \mathcal N(0, 1)

    θ is learned on each task in the inner loop of MAML, φ across tasks in the outer one:
    `noise_parameters()` and the others are told apart for that. In evaluation ε = 0.

    Shapes: those of the layer.

    Args:
        layer: f.
        noise: g, whose output has the shape of the layer's; by default a layer like it that
            begins with zeros, so that the noise is the same for every input. A layer of several
            modules needs one of its own.

    Raises:
        InputError: an argument is no module, a noise is missing, or has another shape.

    Source: Lee et al. 2020, "Meta Dropout: learning to perturb latent features for
    generalization", equations 5 and 6.

    Example:
        >>> layer = MetaDropout(nn.Linear(4, 8))
        >>> layer(torch.randn(3, 4)).shape, len(layer.noise_parameters())
        (torch.Size([3, 8]), 2)
    """

    def __init__(self, layer: nn.Module, noise: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = module("layer", layer)
        if noise is None:
            if any(True for _ in layer.children()):
                raise InputError(
                    f"noise must be given for {type(layer).__name__}, which holds other modules: "
                    "of layers behind one another that all begin with zeros only the last can learn"
                )
            noise = copy.deepcopy(layer)
            for parameter in noise.parameters():
                nn.init.zeros_(parameter)
        self.noise = module("noise", noise)

    def noise_parameters(self) -> dict[str, nn.Parameter]:
        """φ, by names that begin with `noise.`."""
        return {f"noise.{name}": value for name, value in self.noise.named_parameters()}

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer, and multiply."""
        value: Tensor = self.layer(x)
        centre: Tensor = self.noise(x)
        if centre.shape != value.shape:
            raise InputError(
                f"noise must give the shape of the layer's output, {list(value.shape)}; got "
                f"{list(centre.shape)}"
            )
        mean = value * F.softplus(centre)
        if not self.training:
            return mean
        noise = torch.randn_like(centre)
        return drawn(value * F.softplus(centre + noise), mean, noise, "meta")

    def extra_repr(self) -> str:
        """How many numbers the noise has."""
        return f"noise_parameters={sum(p.numel() for p in self.noise.parameters())}"
