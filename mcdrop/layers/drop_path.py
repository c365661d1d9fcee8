"""Stochastic depth: a residual branch is there, or it is not."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class DropPath(nn.Module):
    r"""Drops a residual branch as a whole, for each row alone (stochastic depth).

    .. math:: y_b = \frac{x_b\, m_b}{1 - p}, \quad m_b \sim \mathrm{Bern}(1 - p)

    To be put at the end of the branch: `x + drop_path(branch(x))`. In evaluation the identity.

    Shapes: `[B, ...]`, and the same.

    Args:
        p: probability to drop the branch.

    Raises:
        InputError: `p` is no probability, or the input is no batch.

    Source: Huang et al. 2016, "Deep networks with stochastic depth"; scaled while training, as in
    Larsson et al. 2017, "FractalNet".

    Example:
        >>> import torch
        >>> y = DropPath(0.5)(torch.ones(4, 3))
        >>> bool((y == y[:, :1]).all())  # all of a row, or nothing
        True
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop the branch of some rows."""
        if x.ndim == 0:
            raise InputError("DropPath takes a batch, [B, ...]; got a tensor without axes")
        if not self.training or self.p == 0.0:
            return x
        return x * F.dropout(x.new_ones((x.shape[0], *[1] * (x.ndim - 1))), self.p)

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"
