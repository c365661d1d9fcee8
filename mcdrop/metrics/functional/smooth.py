"""Calibration errors without bins: smooth ECE and the kernel's MMCE."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import cases

GRID = 4096  # points of [0, 1] on which residuals are smoothed: finer than any bandwidth found
_STEPS = 30
_WIDTH = 0.4


def smooth_calibration_error(
    *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
) -> Tensor:
    r"""Smooth ECE (Błasiok & Nakkiran 2023), a consistent calibration error without bins.

    Residuals are smoothed over confidences by a Gaussian kernel that is reflected at 0 and 1, and
    the bandwidth is where it equals the error that it gives (their section 3.2):

    .. math:: \mathrm{smECE}_\sigma = \int_0^1 \Big| \tfrac{1}{N} \sum_i K_\sigma(t, f_i)
              (y_i - f_i) \Big| dt, \qquad \mathrm{smECE}_{\sigma^*} = \sigma^*

    f is the confidence of what is predicted and y whether it is right, for binary predictions too;
    the paper's own binary figure takes P(yes) and the outcome, where errors of the two sides cannot
    cancel.

    Args:
        probs: probabilities, `[N, C, ...]` of classes or `[N, ...]` of yes.
        logits: instead of `probs`.
        labels: integers.

    Returns:
        A scalar, float64, from 0 to 1.

    Raises:
        InputError: an argument does not fit.
    """
    found = cases(probs=probs, logits=logits, labels=labels)
    return smoothed(residuals(found.confidence, found.correct), len(found.labels))


def residuals(confidence: Tensor, correct: Tensor) -> Tensor:
    """Sums of `correct - confidence` on the grid, float64 `[GRID]`; they add up over cases."""
    place = (confidence * GRID).long().clamp_max(GRID - 1)
    empty = torch.zeros(GRID, dtype=torch.float64, device=confidence.device)
    return empty.scatter_add_(0, place, correct - confidence)


def smoothed(sums: Tensor, number: Tensor | int) -> Tensor:
    """Smooth ECE of residuals on the grid.

    Args:
        sums: of residuals, `[..., GRID]`.
        number: of cases, `[...]`.

    Returns:
        `[...]`, float64.
    """
    number = torch.as_tensor(number, dtype=sums.dtype, device=sums.device)[..., None]
    # reflection at both ends, then periodic
    mirrored = torch.cat((sums, sums.flip(-1)), -1) / number
    spectrum = torch.fft.rfft(mirrored)
    frequency = torch.arange(spectrum.shape[-1], device=sums.device) * math.pi

    def error(bandwidth: Tensor) -> Tensor:
        kernel = torch.exp(-0.5 * (frequency * bandwidth[..., None]).square())
        smooth: Tensor = torch.fft.irfft(spectrum * kernel, 2 * GRID)
        return smooth[..., :GRID].abs().sum(-1)

    low = torch.zeros(sums.shape[:-1], dtype=sums.dtype, device=sums.device)
    high = torch.ones_like(low)
    for _ in range(_STEPS):  # the error falls with the bandwidth: they meet once
        middle = (low + high) / 2.0
        above = error(middle) > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return high


def maximum_mean_calibration_error(
    *,
    probs: Tensor | None = None,
    logits: Tensor | None = None,
    labels: Tensor,
    width: float = _WIDTH,
) -> Tensor:
    r"""MMCE (Kumar, Sarawagi & Jain 2018, eq. 4), with their Laplacian kernel.

    .. math:: \Big( \tfrac{1}{N^2} \sum_{i,j} (c_i - f_i)(c_j - f_j)
              e^{-|f_i - f_j| / w} \Big)^{1/2}

    By sorting, in N log N steps and not N².

    Args:
        probs: as for `smooth_calibration_error`.
        logits: instead of `probs`.
        labels: integers.
        width: w, above 0.

    Returns:
        A scalar, float64.

    Raises:
        InputError: an argument does not fit.
    """
    if not width >= 0.01:
        raise InputError(f"expected a kernel width of at least 0.01; got {width}")
    found = cases(probs=probs, logits=logits, labels=labels)
    return kernel_error(found.confidence, found.correct, width)


def kernel_error(confidence: Tensor, correct: Tensor, width: float = _WIDTH) -> Tensor:
    """`maximum_mean_calibration_error` of confidences and whether they were right, `[N]` each."""
    order = confidence.argsort()
    place = confidence[order] / width
    residual = correct[order] - confidence[order]
    # sum over pairs i <= j: e^-(place_j - place_i), a running sum of what comes before
    before = torch.cumsum(residual * place.exp(), 0) - residual * place.exp()
    pairs = 2.0 * (residual * (-place).exp() * before).sum() + residual.square().sum()
    return pairs.clamp_min(0.0).sqrt() / len(order)
