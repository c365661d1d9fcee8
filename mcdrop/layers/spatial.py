"""Spatial dropout: whole channels at a time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import integer
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class SpatialDropout(nn.Module):
    r"""Drops whole channels: neighbours in an image or a signal tell the same, and go together.

    .. math:: y_{bc\cdot} = \frac{x_{bc\cdot}\, m_{bc}}{1 - p}, \quad m_{bc} \sim \mathrm{Bern}(1-p)

    In evaluation the identity. `torch.nn.Dropout1d`, `Dropout2d` and `Dropout3d` in one.

    Shapes: `[B, C, L]` for `dims=1`, `[B, C, H, W]` for 2, `[B, C, D, H, W]` for 3; and the same.

    Args:
        p: probability to drop a channel.
        dims: axes behind the channels: 1, 2 or 3.
        inplace: write into the input.

    Raises:
        InputError: `p` is no probability, `dims` is another number, or the input has other axes.

    Source: Tompson et al. 2015, "Efficient object localization using convolutional networks".

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> y = SpatialDropout(0.5, dims=2)(torch.ones(1, 8, 3, 3))
        >>> sorted(set(y.flatten(2).sum(2).flatten().tolist()))  # all of a channel, or nothing
        [0.0, 18.0]
    """

    def __init__(self, p: float = 0.5, dims: int = 2, inplace: bool = False) -> None:
        super().__init__()
        self.p = checked_rate(p)
        self.dims = integer("dims", dims, 1, 3)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Drop channels."""
        if x.ndim != self.dims + 2:
            raise InputError(
                f"SpatialDropout with dims={self.dims} takes [B, C] and {self.dims} axes behind "
                f"them; got {x.ndim} axes"
            )
        function = (F.dropout1d, F.dropout2d, F.dropout3d)[self.dims - 1]
        return function(x, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """The rate and the axes."""
        return f"p={self.p}, dims={self.dims}, inplace={self.inplace}"
