"""What the layers of a model add to its loss."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


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

    Returns:
        A scalar, on the device of the layers.

    Example:
        >>> from mcdrop.layers import ConcreteDropout
        >>> net = nn.Sequential(ConcreteDropout(nn.Linear(4, 8), rows=100), nn.Linear(8, 1))
        >>> loss = net(torch.randn(5, 4)).square().mean() + regularization(net)
        >>> loss.backward()
    """
    terms = [m.regularization() for m in model.modules() if isinstance(m, Regularized)]
    return torch.stack(terms).sum() if terms else torch.zeros(())
