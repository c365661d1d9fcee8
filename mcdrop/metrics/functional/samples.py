"""Uncertainty of Monte Carlo samples of class probabilities, `[S, N, C]`, in nats."""

from __future__ import annotations

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import SLACK


def predictive_entropy(probs: Tensor) -> Tensor:
    r"""Total uncertainty, :math:`H[\bar p]`.

    Args:
        probs: of the samples, `[S, N, ..., C]`.

    Returns:
        `[N, ...]`, float64, in nats.

    Raises:
        InputError: there are no axes of samples and classes, or values are no probabilities.
    """
    entropy: Tensor = torch.special.entr(_samples(probs).mean(0)).sum(-1)
    return entropy


def expected_entropy(probs: Tensor) -> Tensor:
    r"""Aleatoric uncertainty, :math:`\overline{H[p_s]}`; arguments as for `predictive_entropy`."""
    entropy: Tensor = torch.special.entr(_samples(probs)).sum(-1).mean(0)
    return entropy


def mutual_information(probs: Tensor) -> Tensor:
    r"""Epistemic uncertainty (BALD), :math:`H[\bar p] - \overline{H[p_s]}` (Houlsby et al. 2011).

    Arguments as for `predictive_entropy`. From S samples it is too small by about one part in S.

    Example:
        >>> probs = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
        >>> round(mutual_information(probs).item(), 4)
        0.6931
    """
    return (predictive_entropy(probs) - expected_entropy(probs)).clamp_min(0.0)


def variation_ratio(probs: Tensor) -> Tensor:
    """Share of samples that voted for another class than most did (Gal 2016, eq. 3.18)."""
    return 1.0 - _votes(probs).amax(-1)


def disagreement(probs: Tensor) -> Tensor:
    r"""Probability that two different samples vote differently (Jiang et al. 2022).

    .. math:: \tfrac{S}{S-1} \big( 1 - \sum_c f_c^2 \big), \quad f_c \text{ the share of votes}

    Arguments as for `predictive_entropy`.

    Raises:
        InputError: there is a single sample.
    """
    number = len(probs)
    if number < 2:
        raise InputError("two samples at least can disagree; got one")
    return (1.0 - _votes(probs).square().sum(-1)) * (number / (number - 1))


def _votes(probs: Tensor) -> Tensor:
    """Share of samples whose most probable class each is, `[N, ..., C]`."""
    winners = _samples(probs).argmax(-1)
    one_hot = torch.nn.functional.one_hot(winners, probs.shape[-1])
    return one_hot.double().mean(0)


def _samples(probs: Tensor) -> Tensor:
    if probs.ndim < 3 or not probs.is_floating_point() or probs.numel() == 0:
        raise InputError(
            f"expected probabilities of samples [S, N, ..., C]; got {list(probs.shape)} of "
            f"{str(probs.dtype).removeprefix('torch.')}"
        )
    wide = probs.detach().double()
    if bool(((wide < 0.0) | (wide > 1.0)).any()) or bool(wide.isnan().any()):
        raise InputError("probabilities must lie in [0, 1]; apply the softmax first")
    sums = wide.sum(-1)
    if bool(((sums - 1.0).abs() > SLACK).any()):
        raise InputError(
            "probabilities must sum to 1 over the last axis, of classes; got sums from "
            f"{float(sums.amin()):.4g} to {float(sums.amax()):.4g}. Of two outcomes pass no and yes"
        )
    return wide
