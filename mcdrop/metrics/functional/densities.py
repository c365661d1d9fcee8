"""Proper scores of predicted distributions of a number: log scores, CRPS, quantiles, intervals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.errors import InputError

_LOG_2PI = math.log(2.0 * math.pi)


def gaussian_negative_log_likelihood(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    """Mean negative log density of the target under normal distributions, in nats.

    Args:
        mean: `[N, ...]`.
        std: standard deviations, above 0, of that shape.
        target: of that shape.

    Returns:
        A scalar, float64.

    Raises:
        InputError: shapes differ, or a standard deviation is not above 0.
    """
    return -log_densities(*gaussians(mean, std, target)).mean()


def log_densities(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    """Log density of each target under its normal distribution, float64 in and out, in nats."""
    z = (target - mean) / std
    return -0.5 * (z.square() + _LOG_2PI) - std.log()


def mixture_negative_log_likelihood(means: Tensor, stds: Tensor, target: Tensor) -> Tensor:
    r"""Mean negative log density under the mixture of samples (Gal & Ghahramani 2016, eq. 8).

    .. math:: -\overline{\log \tfrac{1}{S} \sum_s N(y; \mu_s, \sigma_s^2)}

    It is not the density of one normal distribution with the samples' mean and variance.

    Args:
        means: of the samples, `[S, N, ...]`.
        stds: noise of each, above 0; of that shape, or one that spreads to it.
        target: `[N, ...]`.

    Returns:
        A scalar, float64, in nats.

    Raises:
        InputError: shapes differ, or a standard deviation is not above 0.

    Example:
        >>> target = torch.zeros(4)
        >>> score = mixture_negative_log_likelihood(torch.zeros(3, 4), torch.ones(()), target)
        >>> round(score.item(), 4)
        0.9189
    """
    samples, target = ensemble(means, target)
    # spread out, they must have the shape of the means and no axes of their own
    if stds.ndim > means.ndim or any(
        ours not in (1, theirs)
        for ours, theirs in zip(reversed(stds.shape), reversed(means.shape), strict=False)
    ):
        raise InputError(
            f"expected standard deviations that spread to the means {list(means.shape)}; got "
            f"{list(stds.shape)}"
        )
    stds = stds.detach().double()
    if bool((stds <= 0).any()):
        raise InputError("standard deviations must be above 0")
    logs = log_densities(samples, stds, target)
    return (math.log(len(samples)) - torch.logsumexp(logs, 0)).mean()


def crps_gaussian(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    r"""Mean continuous ranked probability score of normal distributions (Gneiting et al. 2005).

    .. math:: \sigma \Big[ z (2 \Phi(z) - 1) + 2 \varphi(z) - \pi^{-1/2} \Big],
              \quad z = (y - \mu) / \sigma

    In units of the target; the absolute error where the deviation is 0.

    Args:
        mean: `[N, ...]`.
        std: standard deviations, at least 0, of that shape.
        target: of that shape.

    Returns:
        A scalar, float64.

    Raises:
        InputError: shapes differ, or a standard deviation is below 0.

    Example:
        >>> one = torch.ones(1)
        >>> round(crps_gaussian(0 * one, one, 0 * one).item(), 4)
        0.2337
    """
    return gaussian_crps(*gaussians(mean, std, target, zero=True)).mean()


def gaussian_crps(mean: Tensor, std: Tensor, target: Tensor) -> Tensor:
    """`crps_gaussian` of each target, float64 in and out."""
    error = target - mean
    z = error / std.clamp_min(torch.finfo(std.dtype).tiny)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    inner = z * torch.erf(z / math.sqrt(2.0)) + 2.0 * density - 1.0 / math.sqrt(math.pi)
    return torch.where(std > 0, std * inner, error.abs())


def crps_ensemble(samples: Tensor, target: Tensor, *, fair: bool = False) -> Tensor:
    r"""Mean continuous ranked probability score of samples (Gneiting & Raftery 2007, eq. 21).

    .. math:: \overline{|x_s - y|} - \tfrac{1}{2} \overline{|x_s - x_t|}

    By sorting, in memory of the samples alone.

    Args:
        samples: `[S, N, ...]`.
        target: `[N, ...]`.
        fair: divide pairs by S (S - 1) and not S²: unbiased for the distribution that the samples
            come from (Ferro 2014).

    Returns:
        A scalar, float64, in units of the target.

    Raises:
        InputError: shapes differ, or a fair score is asked of one sample.

    Example:
        >>> crps_ensemble(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0])).item()
        0.5
    """
    samples, target = ensemble(samples, target)
    number = len(samples)
    if fair and number < 2:
        raise InputError("a fair score needs at least two samples; got one")
    ordered = samples.sort(0).values
    weights = 2.0 * torch.arange(number, device=samples.device) - (number - 1)
    weights = weights.double().view(-1, *[1] * (samples.ndim - 1))
    pairs = (weights * ordered).sum(0) / (number * (number - 1 if fair else number))
    return ((samples - target).abs().mean(0) - pairs).mean()


def pinball_loss(quantile: Tensor, target: Tensor, level: float) -> Tensor:
    r"""Mean score of a predicted quantile (Koenker & Bassett 1978).

    .. math:: \max(q (y - \hat y), (q - 1) (y - \hat y))

    Args:
        quantile: predictions, `[N, ...]`.
        target: of that shape.
        level: the quantile's, strictly between 0 and 1.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> pinball_loss(torch.zeros(2), torch.tensor([1.0, -1.0]), level=0.9).item()
        0.5
    """
    quantile, target = alike(quantile=quantile, target=target)
    error = target - quantile
    return torch.maximum(inside(level) * error, (level - 1.0) * error).mean()


def interval_score(lower: Tensor, upper: Tensor, target: Tensor, level: float) -> Tensor:
    r"""Mean score of central intervals (Gneiting & Raftery 2007, eq. 43).

    .. math:: (u - l) + \tfrac{2}{\alpha} (l - y)_+ + \tfrac{2}{\alpha} (y - u)_+

    Args:
        lower: `[N, ...]`.
        upper: of that shape.
        target: of that shape.
        level: what the intervals hold, 1 - alpha, strictly between 0 and 1.

    Raises:
        InputError: an argument does not fit.
    """
    lower, upper, target = alike(lower=lower, upper=upper, target=target)
    alpha = 1.0 - inside(level)
    missed = (lower - target).clamp_min(0.0) + (target - upper).clamp_min(0.0)
    return (upper - lower + 2.0 / alpha * missed).mean()


def gaussians(
    mean: Tensor, std: Tensor, target: Tensor, *, zero: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked predictions, float64.

    Raises:
        InputError: shapes differ, or a standard deviation is below (or at, unless `zero`) 0.
    """
    mean, std, target = alike(mean=mean, std=std, target=target)
    if bool((std < 0).any() if zero else (std <= 0).any()):
        raise InputError(f"standard deviations must be {'at least' if zero else 'above'} 0")
    return mean, std, target


def ensemble(samples: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Checked samples and targets, float64.

    Raises:
        InputError: the samples are not `[S, *target's]`.
    """
    if samples.ndim == 0 or samples.shape[1:] != target.shape or samples.numel() == 0:
        raise InputError(
            f"expected samples [S, {', '.join(map(str, target.shape))}] for targets "
            f"{list(target.shape)}, at least one; got {list(samples.shape)}"
        )
    return samples.detach().double(), target.detach().double()


def alike(**tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, float64.

    Raises:
        InputError: shapes differ, or there is nothing in them.
    """
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        raise InputError(f"all must have one shape; got {shapes}")
    if any(tensor.numel() == 0 for tensor in tensors.values()):
        raise InputError(f"expected at least one value; got {shapes}")
    return [tensor.detach().double() for tensor in tensors.values()]
