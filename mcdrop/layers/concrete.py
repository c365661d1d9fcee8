"""Concrete dropout: the rate is learned, by gradients through relaxed masks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.arguments import integer, one_of, positive
from mcdrop.errors import InputError
from mcdrop.layers.noise import uniform_like
from mcdrop.layers.rate import checked_rate
from mcdrop.program.drawn import drawn

Loss = Literal["squared_error", "cross_entropy"]
_FACTORS = {"squared_error": 2.0, "cross_entropy": 1.0}


class ConcreteDropout(nn.Module):
    r"""Drops the inputs of a layer at a rate that is trained with its weights.

    .. math:: z = \sigma\!\left(\frac{\operatorname{logit} p + \operatorname{logit} u}{t}\right),
              \quad u \sim \mathcal U(0, 1), \quad y = f\!\left(\frac{x\,(1 - z)}{1 - p}\right)

    The loss, a mean over rows, is to have `mcdrop.regularization(model)` added to it:

    .. math:: \frac{\ell^2 \lVert W \rVert^2}{N (1 - p)} +
              \frac{c K}{N} \bigl(p \log p + (1 - p) \log(1 - p)\bigr)

    with K inputs of the layer and c = 2 for a squared error, 1 for a cross entropy. In evaluation
    the layer as it is.

    Shapes: those of the layer; every element of its input has a mask of its own.

    Args:
        layer: whose inputs are dropped; its `weight` (not its bias) is regularised.
        rows: N, of the training set.
        p: rate to begin with, between 0 and 1.
        loss: what the regulariser is added to.
        length_scale: of the prior on the weights.
        temperature: t; the smaller, the closer masks are to 0 and 1.

    Raises:
        InputError: an argument is out of its range, or the layer has no weight `[out, in]`.

    Source: Gal, Hron & Kendall 2017, "Concrete dropout", equations 3 to 5; the factors of the
    regulariser are those of the authors' code.

    Example:
        >>> layer = ConcreteDropout(nn.Linear(4, 8), rows=1_000, p=0.2)
        >>> y = layer(torch.randn(3, 4))
        >>> round(layer.p, 3), layer.regularization().requires_grad
        (0.2, True)
    """

    def __init__(
        self,
        layer: nn.Module,
        rows: int,
        p: float = 0.1,
        *,
        loss: Loss = "squared_error",
        length_scale: float = 1e-2,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.inputs = self._counted(layer)
        rate = checked_rate(p, below_one=True, above_zero=True)  # a logit is finite
        one_of("loss", loss, tuple(_FACTORS))
        self.layer = layer
        self.rows = integer("rows", rows, 1)
        self.loss = loss
        self.length_scale = positive("length_scale", length_scale)
        self.temperature = positive("temperature", temperature)
        self.logit = nn.Parameter(torch.tensor(math.log(rate) - math.log1p(-rate)))
        self._noted = rate

    @property
    def p(self) -> float:
        """The rate as it is now; reading it waits for the device."""
        return float(torch.sigmoid(self.logit.detach().float()))

    def train(self, mode: bool = True) -> ConcreteDropout:
        """As of any module; the rate is noted, for whom captures the layer next."""
        if not self.logit.is_meta:
            self._noted = self.p
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Drop inputs, and run the layer."""
        if not self.training:
            out: Tensor = self.layer(x)
            return out
        noise = self._noise(x)
        margin = torch.finfo(noise.dtype).eps
        u = noise.clamp(margin, 1.0 - margin)
        logit = self.logit.to(noise.dtype)
        odds = logit + torch.log(u) - torch.log1p(-u)
        dropped = torch.sigmoid(odds / self.temperature)
        kept = x * (1.0 - dropped) / torch.sigmoid(-logit)
        made: Tensor = self.layer(drawn(kept.to(x.dtype), x, noise, "concrete", self._noted))
        return made

    def regularization(self) -> Tensor:
        """What is to be added to the loss, a scalar."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        log_p = nn.functional.logsigmoid(self.logit)
        log_kept = nn.functional.logsigmoid(-self.logit)
        entropy = -(log_p.exp() * log_p + log_kept.exp() * log_kept)
        weights = self.length_scale**2 * weight.square().sum() / log_kept.exp()
        return (weights - _FACTORS[self.loss] * self.inputs * entropy) / self.rows

    def _noise(self, x: Tensor) -> Tensor:
        return uniform_like(x)

    def _counted(self, layer: nn.Module) -> int:
        """K: how many masks a row has."""
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, nn.Parameter):
            raise InputError(f"layer must have a weight; {type(layer).__name__} has none")
        if weight.ndim != 2 or isinstance(layer, nn.Embedding):
            raise InputError(
                f"layer must be linear, with a weight [out, in]; got {type(layer).__name__} with "
                f"{list(weight.shape)}. In front of a convolution put ConcreteSpatialDropout"
            )
        return weight.shape[1]

    def extra_repr(self) -> str:
        """The rate and what it is trained with."""
        return (
            f"p={self.p:.4g}, rows={self.rows}, loss={self.loss!r}, "
            f"length_scale={self.length_scale}, temperature={self.temperature}"
        )
