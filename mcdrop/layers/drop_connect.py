"""DropConnect: weights instead of units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from mcdrop.arguments import module
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate


class DropConnect(nn.Module):
    r"""Drops weights of a layer, and scales those that are kept.

    .. math:: y = f\!\left(x;\ \frac{W \odot M}{1 - p}\right), \quad M_{ij} \sim \mathrm{Bern}(1-p)

    All rows of a batch have the same weights: in training a batch is one draw, and in Monte Carlo
    prediction a sample is, whatever the masks of other sites. In evaluation the layer as it is.

    Around a recurrent layer, with its recurrent weights, this is the weight drop of Merity et al.

    Shapes: those of the layer.

    Args:
        layer: whose weights they are; it lies in `layer`, and its weights in the state as there.
        p: probability to drop a weight.
        weights: their names in the layer.

    Raises:
        InputError: `p` is no probability, or the layer has no such weight.

    Source: Wan et al. 2013, "Regularization of neural networks using DropConnect", whose
    evaluation by moments is not needed where samples are drawn; Merity, Keskar & Socher 2018,
    "Regularizing and optimizing LSTM language models".

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> layer = DropConnect(nn.Linear(6, 1, bias=False), p=0.5)
        >>> _ = layer.layer.weight.data.fill_(1.0)
        >>> layer(torch.ones(2, 6)).tolist()  # what is left of six, doubled
        [[4.0], [4.0]]
    """

    def __init__(
        self, layer: nn.Module, p: float = 0.5, weights: Sequence[str] = ("weight",)
    ) -> None:
        super().__init__()
        self.layer = module("layer", layer)
        self.p = checked_rate(p)
        self.weights = (weights,) if isinstance(weights, str) else tuple(weights or ())
        known = [name for name, _ in layer.named_parameters()]
        missing = [name for name in self.weights if name not in known]
        if missing or not self.weights:
            raise InputError(
                f"weights must be names of {type(layer).__name__}'s parameters, {', '.join(known)};"
                f" got {weights!r}"
            )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer with some of its weights dropped."""
        if not self.training or self.p == 0.0:
            return self.layer(*args, **kwargs)
        held = dict(self.layer.named_parameters())
        if gone := [name for name in self.weights if name not in held]:
            raise InputError(
                f"{type(self.layer).__name__} has no parameter {', '.join(gone)} any more; what a "
                "parametrization (weight norm, for instance) computes cannot be dropped: name what "
                f"it is computed from, of {', '.join(held)}"
            )
        dropped = {name: F.dropout(held[name], self.p) for name in self.weights}
        return functional_call(self.layer, dropped, args, kwargs)

    def extra_repr(self) -> str:
        """The rate and the weights."""
        return f"p={self.p}, weights={self.weights}"
