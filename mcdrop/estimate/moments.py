"""Running mean and variance that merge in any order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moments:
    r"""Count, mean and sum of squared deviations over the sample axis.

    Merged by Chan, Golub & LeVeque (1983):
    :math:`M_2 = M_{2a} + M_{2b} + \delta^2 n_a n_b / n`, with :math:`\delta = \bar b - \bar a`.
    What is merged is float64: thousands of small corrections of a large mean would drift else.

    Attributes:
        count: number of samples.
        mean: `[B, ...]`.
        m2: sum of squared deviations from the mean, `[B, ...]`.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [6.0]])
        >>> merged = Moments.of(x[:1]).merge(Moments.of(x[1:]))
        >>> merged.mean.item(), merged.variance().item()
        (3.0, 7.0)
    """

    count: int
    mean: Tensor
    m2: Tensor

    @staticmethod
    def of(values: Tensor) -> Moments:
        """Moments of a chunk `[S, B, ...]`, in float32 or wider."""
        wide = widened(values)
        mean = wide.mean(0)
        return Moments(values.shape[0], mean, (wide - mean).square_().sum(0))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of samples together."""
        count = self.count + other.count
        delta = other.mean.double() - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta.square() * (self.count * other.count / count)
        return Moments(count, mean, m2)

    def rows(self, index: Tensor) -> Moments:
        """The moments of some rows."""
        return Moments(self.count, self.mean[index], self.m2[index])

    def variance(self) -> Tensor:
        """Unbiased variance of independent samples; NaN for a single one."""
        if self.count < 2:
            return torch.full_like(self.m2, torch.nan)
        return self.m2 / (self.count - 1)


def widened(values: Tensor) -> Tensor:
    """The values in float32 or wider."""
    if values.dtype in (torch.float32, torch.float64):
        return values  # without a step: small nets notice every one
    return values.to(torch.promote_types(values.dtype, torch.float32))
