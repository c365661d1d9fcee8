"""The result of Monte Carlo prediction: frozen summaries over samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mcdrop.arguments import inside


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What every prediction carries.

    Attributes:
        mean: mean over samples, `[B, ...]`.
        variance: see the subclasses.
        standard_error: Monte Carlo standard error of `mean`, same shape; NaN for a single sample.
            Under balanced sampling it is known from as many means as there are blocks of 16
            samples: from few, it can be half or twice what it should be (mean ± 2 · it holds the
            limit in 85% of cases at 64 samples, 93% at 256). Within a single block, behind the
            last complete one, and where rates are small, it errs on the large side.
        samples: samples used for each row, int64 `[B]`; 0 where none was needed.
    """

    mean: Tensor
    variance: Tensor
    standard_error: Tensor
    samples: Tensor

    def fields(self) -> dict[str, Tensor]:
        """Every field by name, in the order of declaration."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def rows(self, index: Tensor) -> Self:
        """The prediction of some rows."""
        return type(self)(**{name: value[index] for name, value in self.fields().items()})

    def part(self, first: int, last: int) -> Self:
        """The prediction of rows `first` to `last - 1`, without a copy."""
        return type(self)(**{name: value[first:last] for name, value in self.fields().items()})

    def to(self, device: torch.device | str) -> Self:
        """The prediction on a device."""
        return type(self)(**{name: value.to(device) for name, value in self.fields().items()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={list(value.shape)}" for name, value in self.fields().items())
        return f"{type(self).__name__}({shapes})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClassificationPrediction(Prediction):
    r"""Class probabilities with their uncertainty; also binary and multilabel (no class axis then).

    Entropies are in nats. With :math:`p_s` the probabilities of sample s, :math:`\bar p` their
    mean:

    - `entropy` :math:`H[\bar p]`, total uncertainty;
    - `expected_entropy` :math:`E_s H[p_s]`, aleatoric;
    - `mutual_information` :math:`H[\bar p] - E_s H[p_s]`, epistemic (BALD; Houlsby et al. 2011);
      From S samples it is too small by about one part in S, and zero for one: compare rows with
      equal `samples`;
    - `variation_ratio` :math:`1 - f_{mode}/S`, the share of samples that voted for another class
      (Gal 2016, eq. 3.18).

    `mean` and `variance` (unbiased, over samples) have the class axis; the four scores do not.
    """

    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    variation_ratio: Tensor


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RegressionPrediction(Prediction):
    """Predictive mean and variance of a regression, `variance = epistemic + aleatoric`.

    `epistemic` is the unbiased variance over samples (NaN for a single sample), `aleatoric` the
    mean noise variance.
    """

    epistemic: Tensor
    aleatoric: Tensor

    def quantile(self, q: float) -> Tensor:
        """Quantile of the Gaussian with this mean and variance (moment matching), like `mean`.

        Args:
            q: level, strictly between 0 and 1.

        Raises:
            InputError: `q` is outside (0, 1).
        """
        q = inside(q, "a quantile's level")
        z = float(torch.special.ndtri(torch.tensor(q, dtype=torch.float64)))
        return self.mean + z * self.variance.sqrt()

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central interval that holds `level` of the predictive distribution: (lower, upper).

        Raises:
            InputError: `level` is outside (0, 1).
        """
        level = inside(level, "an interval's level")
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)


def joined(parts: Sequence[Prediction]) -> Prediction:
    """Predictions of some rows after those of others, all of one kind."""
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    )
