"""How sure a difference of losses is: luck of the rows, and luck of the trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference, with its standard error."""

    mean: float
    error: float


def difference(losses: Tensor, others: Tensor, sizes: Sequence[int]) -> Difference:
    r"""How much greater losses are than others, row by row.

    .. math:: SE^2 = \frac{\mathrm{var}_n\, \bar d_n}{N} +
        \frac{1}{S} \sum_f \left(\frac{N_f}{N}\right)^2 \mathrm{var}_s\, \bar d_{sf}

    :math:`\bar d_n` is a row's difference, averaged over the S trainings that it was held out of;
    :math:`\bar d_{sf}` that of a training, averaged over the N_f rows of its fold. Where each fold
    has one training, the second term, its luck, cannot be known and is left out.

    Args:
        losses: of S trainings, `[S, N]`, rows in the order of the folds.
        others: what they are held against, of the same shape.
        sizes: rows of each fold.

    Example:
        >>> losses = torch.tensor([[1.0, 3.0, 2.0, 2.0], [1.0, 3.0, 4.0, 4.0]])
        >>> found = difference(losses, torch.zeros(2, 4), sizes=(2, 2))
        >>> found.mean, round(found.error, 3)  # the second fold's trainings differ
        (2.5, 0.707)
    """
    found = (losses - others).double()  # [S, N]
    trainings, rows = found.shape
    squared = found.mean(0).var() / rows
    if trainings > 1:
        blocks = torch.stack([block.mean(1) for block in found.split(list(sizes), 1)])  # [F, S]
        shares = torch.tensor(sizes, dtype=torch.float64) / rows
        squared = squared + (shares.square() * blocks.var(1)).sum() / trainings
    return Difference(found.mean().item(), squared.sqrt().item())


def ranking(inside: Tensor, outside: Tensor) -> Tensor:
    r"""What each row gives to the AUROC of telling outside from inside: it is their mean.

    .. math:: c_n = P(o > i_n) + P(o_n > i) - A, \qquad A = P(o > i)

    Probabilities are shares of the rows, ties half. The spread of these says how sure the area is
    (DeLong, DeLong & Clarke-Pearson 1988); a row inside and the one outside that was made of it
    count as one, as they are not independent.

    Args:
        inside: uncertainties, `[N]`.
        outside: of what was made of the same rows, `[N]`.

    Example:
        >>> ranking(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0]))
        tensor([0.7500, 0.7500], dtype=torch.float64)
    """
    above = outside[None, :] > inside[:, None]  # [inside, outside]
    wins = above.double() + 0.5 * (outside[None, :] == inside[:, None]).double()
    return wins.mean(1) + wins.mean(0) - wins.mean()
