"""Calibration of predicted spread: whether intervals, quantiles and deviations hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.densities import alike, gaussians
from mcdrop.metrics.functional.reliability import some

LEVELS = 99


def interval_coverage(lower: Tensor, upper: Tensor, target: Tensor) -> Tensor:
    """Share of targets within their intervals, bounds included (PICP).

    Args:
        lower: `[N, ...]`.
        upper: of that shape.
        target: of that shape.

    Raises:
        InputError: shapes differ.

    Example:
        >>> zero = torch.zeros(2)
        >>> interval_coverage(zero, zero + 1, torch.tensor([0.5, 2.0])).item()
        0.5
    """
    lower, upper, target = alike(lower=lower, upper=upper, target=target)
    return ((lower <= target) & (target <= upper)).double().mean()


def mean_interval_width(lower: Tensor, upper: Tensor) -> Tensor:
    """Mean width of intervals (MPIW), in units of the target; arguments as above."""
    lower, upper = alike(lower=lower, upper=upper)
    return (upper - lower).mean()


def sharpness(std: Tensor) -> Tensor:
    """Root mean predicted variance (Kuleshov et al. 2018), in units of the target."""
    (std,) = alike(std=std)
    return std.square().mean().sqrt()


def probability_integral_transform(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    r"""Where each target lies in its normal distribution, :math:`\Phi((y - \mu) / \sigma)`.

    Uniform on [0, 1] for calibrated predictions.

    Args:
        mean: `[N, ...]`.
        std: above 0, of that shape.
        target: of that shape.

    Raises:
        InputError: shapes differ, or a standard deviation is not above 0.
    """
    mean, std, target = gaussians(mean, std, target)
    transform: Tensor = torch.special.ndtr((target - mean) / std)
    return transform


def pit_histogram(mean: Tensor, std: Tensor, target: Tensor, bins: int = 10) -> Tensor:
    """Share of targets in each part of their distribution, `[bins]`; flat if calibrated.

    Arguments as for `probability_integral_transform`.
    """
    places = probability_integral_transform(mean, std, target).flatten()
    return torch.histc(places, bins, 0.0, 1.0) / len(places)


@dataclass(frozen=True, slots=True)
class QuantileCalibration:
    """How often targets lie below predicted quantiles, which is to be as often as they say.

    Attributes:
        levels: of the quantiles, `[L]`.
        observed: shares of targets at most at them, `[L]`.
    """

    levels: Tensor
    observed: Tensor

    @property
    def root_mean_square(self) -> Tensor:
        """Root mean square difference over the levels (Kuleshov et al. 2018, eq. 9, rooted)."""
        return (self.observed - self.levels).square().mean().sqrt()

    @property
    def mean_absolute(self) -> Tensor:
        """Mean absolute difference over the levels."""
        return (self.observed - self.levels).abs().mean()

    @property
    def area(self) -> Tensor:
        """Area between the curve, in straight lines, and the diagonal, from level 0 to 1."""
        ends = self.levels.new_tensor([0.0]), self.levels.new_tensor([1.0])
        levels = torch.cat((ends[0], self.levels, ends[1]))
        gaps = torch.cat((ends[0], self.observed - self.levels, ends[0]))
        left, right = gaps[:-1], gaps[1:]
        total = left.abs() + right.abs()
        # where the line crosses the diagonal, two triangles and not a trapezoid
        crossing = (left.square() + right.square()) / (2.0 * total.clamp_min(1e-300))
        areas = torch.where(left * right < 0, crossing, total / 2.0)
        return (areas * levels.diff()).sum()


def quantile_calibration(
    mean: Tensor, std: Tensor, target: Tensor, levels: int = LEVELS
) -> QuantileCalibration:
    """Calibration of normal predictions over evenly spaced quantiles (Kuleshov et al. 2018).

    Args:
        mean: `[N, ...]`.
        std: above 0, of that shape.
        target: of that shape.
        levels: how many, strictly between 0 and 1: 99 are the percentiles.

    Raises:
        InputError: an argument does not fit.
    """
    if levels < 1:
        raise InputError(f"expected at least one level; got {levels}")
    places = probability_integral_transform(mean, std, target).flatten().sort().values
    wanted = torch.arange(1, levels + 1, dtype=torch.float64, device=places.device) / (levels + 1)
    below = torch.searchsorted(places, wanted, right=True)
    return QuantileCalibration(wanted, below.double() / len(places))


def expected_normalized_calibration_error(
    mean: Tensor, std: Tensor, target: Tensor, bins: int = 10
) -> Tensor:
    r"""ENCE (Levi et al. 2020, eq. 8), over bins of equal mass in the order of the deviations.

    .. math:: \frac{1}{B} \sum_b \frac{|RMV_b - RMSE_b|}{RMV_b}

    RMV is the root mean predicted variance of a bin, RMSE the root mean squared error. Targets of
    equal deviations may fall into two bins: each counts with the mean squared error of all of them.

    Args:
        mean: `[N, ...]`.
        std: above 0, of that shape.
        target: of that shape.
        bins: how many; no more than there are targets.

    Raises:
        InputError: an argument does not fit.
    """
    mean, std, target = gaussians(mean, std, target)
    predicted, squared = _in_order(mean, std, target)
    cut = _bins(bins, predicted)
    parts = zip(predicted.tensor_split(cut), squared.tensor_split(cut), strict=True)
    gaps = [1.0 - (e.mean().sqrt() / v.mean().sqrt()) for v, e in parts]
    return torch.stack(gaps).abs().mean()


def uncertainty_calibration_error(
    mean: Tensor, std: Tensor, target: Tensor, bins: int = 10
) -> Tensor:
    r"""UCE (Laves et al. 2020, eq. 10), over bins of equal width of the predicted variance.

    .. math:: \sum_b \frac{n_b}{N} |MSE_b - MV_b|

    In squared units of the target. Arguments as for `expected_normalized_calibration_error`.
    """
    mean, std, target = gaussians(mean, std, target)
    predicted, squared = _in_order(mean, std, target)
    _bins(bins, predicted)
    low, high = predicted[0], predicted[-1]
    width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    place = ((predicted - low) / width * bins).ceil().long().sub(1).clamp(0, bins - 1)
    sums = predicted.new_zeros(bins).scatter_add_(0, place, squared - predicted)
    return sums.abs().sum() / len(predicted)


def _in_order(mean: Tensor, std: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted variances and squared errors, in the order of the former.

    Where variances are equal, each error is the mean of all of theirs: which comes first says
    nothing.
    """
    variance, order = std.square().flatten().sort()
    squared = (target - mean).square().flatten()[order]
    _, ties, counts = torch.unique_consecutive(variance, return_inverse=True, return_counts=True)
    sums = torch.zeros_like(counts, dtype=squared.dtype).scatter_add_(0, ties, squared)
    return variance, (sums / counts)[ties]


def _bins(bins: int, values: Tensor) -> int:
    return min(some(bins), len(values))
