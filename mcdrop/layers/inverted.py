"""Inverted dropout: torch's own, under the name of the family."""

from __future__ import annotations

from torch import nn

from mcdrop.layers.rate import checked_rate


class Dropout(nn.Dropout):
    r"""Drops each element alone, and scales what is kept so that the mean stays (inverted dropout).

    .. math:: y = \frac{x \odot m}{1 - p}, \quad m \sim \mathrm{Bern}(1 - p); \qquad
              \mathbb E\,y = x, \quad \operatorname{Var} y = \tfrac{p}{1 - p}\,x^2

    In evaluation the identity. This is `torch.nn.Dropout`, which Monte Carlo prediction takes as
    it is; it stands here so that the family is whole.

    Shapes: any, and the same.

    Args:
        p: probability to drop.
        inplace: write into the input.

    Raises:
        InputError: `p` is no probability.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
    overfitting", section 10.

    Example:
        >>> import torch
        >>> layer = Dropout(0.5).eval()
        >>> layer(torch.ones(2, 3)).sum().item()
        6.0
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(checked_rate(p), inplace)
