"""Group dropout: neighbouring units go together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.arguments import integer
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class GroupDropout(nn.Module):
    r"""Drops units in groups of neighbours, as many in each.

    .. math:: y_{bf} = \frac{x_{bf}\, m_{b, \lfloor f G / F \rfloor}}{1 - p}, \quad
              m_{bg} \sim \mathrm{Bern}(1 - p)

    In evaluation the identity.

    Shapes: `[B, F, ...]`, or the F units in axis `dim`; and the same.

    Args:
        groups: G, how many there are; a divisor of F.
        p: probability to drop a group.
        dim: axis of the units.

    Raises:
        InputError: `p` is no probability, or the units do not divide into the groups.

    Source: dropout (Srivastava et al. 2014, section 10) of groups in place of units; with as many
    groups as units it is that.

    Example:
        >>> import torch
        >>> y = GroupDropout(3, p=0.5)(torch.ones(4, 6))
        >>> bool((y[:, ::2] == y[:, 1::2]).all())  # both of a group, or none
        True
    """

    def __init__(self, groups: int, p: float = 0.5, dim: int = 1) -> None:
        super().__init__()
        self.groups = integer("groups", groups, 1)
        self.p = checked_rate(p)
        self.dim = integer("dim", dim)

    def forward(self, x: Tensor) -> Tensor:
        """Drop groups."""
        dim = self.dim % x.ndim if -x.ndim <= self.dim < x.ndim else 0
        if dim == 0 or x.shape[dim] % self.groups:
            raise InputError(
                f"GroupDropout divides axis {self.dim}, behind the batch, into {self.groups} "
                f"groups; got shape {list(x.shape)}"
            )
        if not self.training or self.p == 0.0:
            return x
        shape = [1] * x.ndim
        shape[0], shape[dim] = x.shape[0], self.groups
        mask = F.dropout(x.new_ones(shape), self.p)
        return x * mask.repeat_interleave(x.shape[dim] // self.groups, dim)

    def extra_repr(self) -> str:
        """Groups, rate and axis."""
        return f"groups={self.groups}, p={self.p}, dim={self.dim}"
