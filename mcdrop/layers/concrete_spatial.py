"""Concrete dropout of whole channels, in front of a convolution."""

from __future__ import annotations

from torch import Tensor, nn

from mcdrop.errors import InputError
from mcdrop.layers.concrete import ConcreteDropout, Loss
from mcdrop.layers.noise import uniform_like


class ConcreteSpatialDropout(ConcreteDropout):
    r"""Drops channels in front of a convolution, at a rate that is trained with its weights.

    `ConcreteDropout` with one u for each row and channel; K is the number of channels.

    Shapes: `[B, C, ...]`, as the convolution takes it.

    Args:
        layer: the convolution; its `weight` (not its bias) is regularised.
        rows: N, of the training set.
        p: rate to begin with, between 0 and 1.
        loss: what the regulariser is added to.
        length_scale: of the prior on the weights.
        temperature: of the masks; the authors take 2/3 for convolutions.

    Raises:
        InputError: an argument is out of its range, `layer` no convolution, or x no batch.

    Source: Gal, Hron & Kendall 2017, "Concrete dropout", and the authors' code for convolutions.

    Example:
        >>> import torch
        >>> layer = ConcreteSpatialDropout(nn.Conv2d(3, 8, 3), rows=1_000)
        >>> layer(torch.randn(2, 3, 8, 8)).shape
        torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self,
        layer: nn.Module,
        rows: int,
        p: float = 0.1,
        *,
        loss: Loss = "cross_entropy",
        length_scale: float = 1e-2,
        temperature: float = 2 / 3,
    ) -> None:
        super().__init__(
            layer, rows, p, loss=loss, length_scale=length_scale, temperature=temperature
        )

    def _noise(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        if x.ndim != weight.ndim:
            raise InputError(
                f"ConcreteSpatialDropout takes [B, C] and {weight.ndim - 2} axes behind them; got "
                f"{x.ndim} axes"
            )
        return uniform_like(x[(slice(None), slice(None), *[slice(1)] * (x.ndim - 2))])

    def _counted(self, layer: nn.Module) -> int:
        weight, channels = getattr(layer, "weight", None), getattr(layer, "in_channels", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim < 3:
            raise InputError(
                f"layer must be a convolution, with a weight; got {type(layer).__name__}"
            )
        # the weight of a grouped or a transposed convolution has another number there
        return channels if isinstance(channels, int) else weight.shape[1]
