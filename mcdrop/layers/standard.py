"""Standard dropout: nothing is scaled while training, the deterministic pass is."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.layers.rate import checked_rate


class StandardDropout(nn.Module):
    r"""Drops each element alone; the deterministic pass is scaled instead of what is kept.

    .. math:: y = x \odot m, \quad m \sim \mathrm{Bern}(1 - p); \qquad
              \mathbb E\,y = (1 - p)\,x, \quad \operatorname{Var} y = p (1 - p)\,x^2

    In evaluation :math:`y = (1 - p)\,x`, the mean. Weights trained behind this layer are larger by
    :math:`1/(1 - p)` than behind `Dropout`, which is the same model otherwise.

    Shapes: any, and the same.

    Args:
        p: probability to drop.

    Raises:
        InputError: `p` is no probability.

    Source: Hinton et al. 2012, "Improving neural networks by preventing co-adaptation of feature
    detectors"; Srivastava et al. 2014, section 4.

    Example:
        >>> import torch
        >>> layer = StandardDropout(0.25).eval()
        >>> layer(torch.ones(4)).tolist()
        [0.75, 0.75, 0.75, 0.75]
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = checked_rate(p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop, or scale."""
        # dropping scales what it keeps by 1 / (1 - p): its mask is one that every engine knows
        return F.dropout(x * (1.0 - self.p), self.p, self.training)

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"
