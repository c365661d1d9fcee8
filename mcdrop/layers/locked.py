"""Locked dropout: one mask for all time steps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class LockedDropout(nn.Module):
    r"""Drops the same features at every time step of a sequence (variational dropout).

    .. math:: y_{bt\cdot} = \frac{x_{bt\cdot} \odot m_{b\cdot}}{1 - p}, \quad
              m_{bf} \sim \mathrm{Bern}(1 - p)

    In evaluation the identity.

    Shapes: `[B, T, F]` with `batch_first`, else `[T, B, F]`; and the same.

    Args:
        p: probability to drop a feature of a sequence.
        batch_first: whether the batch is axis 0, and time axis 1.

    Raises:
        InputError: `p` is no probability, or the input has not three axes.

    Source: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", equation 4; the name is that of Merity et al. 2018.

    Example:
        >>> import torch
        >>> y = LockedDropout(0.5)(torch.ones(2, 7, 5))
        >>> bool((y == y[:, :1]).all())
        True
    """

    def __init__(self, p: float = 0.5, batch_first: bool = True) -> None:
        super().__init__()
        self.p = checked_rate(p)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        """Drop features."""
        if x.ndim != 3:
            raise InputError(
                f"LockedDropout takes a batch of sequences with features, three axes; got {x.ndim}"
            )
        if not self.training or self.p == 0.0:
            return x
        one_step = x[:, :1] if self.batch_first else x[:1]
        return x * F.dropout(one_step.new_ones(one_step.shape), self.p)

    def extra_repr(self) -> str:
        """The rate and the place of the batch."""
        return f"p={self.p}, batch_first={self.batch_first}"
