"""Telling inputs that are unlike the training data, by an uncertainty: those are the positives."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from mcdrop.errors import InputError


def detection_auroc(inside: Tensor, outside: Tensor) -> Tensor:
    """Probability that an input from outside is more uncertain than one from inside; ties half.

    Args:
        inside: uncertainties of inputs like the training data, `[N]`.
        outside: of others, `[M]`.

    Returns:
        A scalar from 0 to 1; 0.5 tells nothing.

    Raises:
        InputError: one of them is empty, or has NaN.

    Example:
        >>> detection_auroc(torch.tensor([0.1, 0.4]), torch.tensor([0.3, 0.9])).item()
        0.75
    """
    return binary_auroc(*_ranked(inside, outside))


def detection_average_precision(inside: Tensor, outside: Tensor) -> Tensor:
    """Average precision (AUPR), the outside as positives; arguments as for `detection_auroc`."""
    return binary_average_precision(*_ranked(inside, outside))


def false_positive_rate(inside: Tensor, outside: Tensor, recall: float = 0.95) -> Tensor:
    """Share of the inside that is flagged where at least this share of the outside is (FPR95).

    Args:
        inside: as for `detection_auroc`.
        outside: as for `detection_auroc`.
        recall: above 0, at most 1.

    Raises:
        InputError: an argument does not fit.
    """
    if not 0.0 < recall <= 1.0:
        raise InputError(f"a recall lies above 0 and is at most 1; got {recall}")
    _ranked(inside, outside)
    ordered = outside.detach().double().flatten().sort(descending=True).values
    needed = min(len(ordered), max(1, math.ceil(recall * len(ordered) - 1e-9)))
    return (inside.detach().double().flatten() >= ordered[needed - 1]).double().mean()


def _ranked(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks in [0, 1] and labels: torchmetrics takes what lies outside of [0, 1] for logits."""
    both = [values.detach().double().flatten() for values in (inside, outside)]
    if any(len(values) == 0 or bool(values.isnan().any()) for values in both):
        raise InputError("expected uncertainties from inside and from outside, none of them NaN")
    joined = torch.cat(both)
    _, ranks = torch.unique(joined, return_inverse=True)
    labels = torch.cat([torch.full((len(v),), i, device=v.device) for i, v in enumerate(both)])
    return ranks.double() / max(1, len(joined)), labels
