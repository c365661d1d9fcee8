"""What the layers of a model add to its loss."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mcdrop.arguments import module
from mcdrop.errors import InputError


@runtime_checkable
class Regularized(Protocol):
    """A layer with a term of its own in the loss."""

    def regularization(self) -> Tensor:
        """The term, a scalar."""
        ...


def regularization(model: nn.Module) -> Tensor:
    """The sum of what the layers of a model add to its loss; zero where none does.

    All terms are for a loss that is a mean over rows; each layer knows how many rows there are.

    Args:
        model: whose modules are asked; each once, however often it is used.

    Raises:
        InputError: a layer's term is no scalar tensor.

    Returns:
        A scalar, on the device of the layers.

    Example:
        >>> from mcdrop.layers import ConcreteDropout
        >>> net = nn.Sequential(ConcreteDropout(nn.Linear(4, 8), rows=100), nn.Linear(8, 1))
        >>> loss = net(torch.randn(5, 4)).square().mean() + regularization(net)
        >>> loss.backward()
    """
    terms = [
        _term(name, layer)
        for name, layer in module("model", model).named_modules()
        if isinstance(layer, Regularized)
    ]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def _term(name: str, layer: Regularized) -> Tensor:
    term: object = layer.regularization()
    if not isinstance(term, Tensor) or term.ndim:
        came = f"shape {list(term.shape)}" if isinstance(term, Tensor) else repr(term)
        raise InputError(
            f"regularization() of {name or 'the model'} ({type(layer).__name__}) must return a "
            f"scalar tensor; got {came}"
        )
    return term
