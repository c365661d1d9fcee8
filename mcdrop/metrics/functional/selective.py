"""Selective prediction: what is wrong among the predictions kept, the least uncertain first.

Where uncertainties are equal nobody can tell which case comes first: figures are the mean over all
orders of equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.errors import InputError


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Risk of the n least uncertain cases, for n from 1 to N, float64 `[N]` each.

    Attributes:
        coverage: share of the cases that is kept, n / N.
        risk: their mean loss (selective risk; Geifman & El-Yaniv 2017).
        threshold: uncertainty of the last of them.
    """

    coverage: Tensor
    risk: Tensor
    threshold: Tensor

    @property
    def area(self) -> Tensor:
        """AURC: the mean of the risks."""
        return self.risk.mean()

    @property
    def generalized_area(self) -> Tensor:
        """AUGRC (Traub et al. 2024): the mean of risk times coverage, failures that go unseen."""
        return (self.risk * self.coverage).mean()


def risk_coverage(uncertainty: Tensor, loss: Tensor) -> RiskCoverage:
    """The curve of risk over coverage.

    Args:
        uncertainty: of each case, `[N, ...]`.
        loss: of that shape; 1 for wrong and 0 for right, or any other.

    Raises:
        InputError: shapes differ, or a value is NaN.

    Example:
        >>> curve = risk_coverage(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.0, 0.0, 1.0]))
        >>> [round(risk, 3) for risk in curve.risk.tolist()]
        [0.0, 0.0, 0.333]
    """
    if uncertainty.shape != loss.shape or loss.numel() == 0:
        raise InputError(
            f"expected an uncertainty and a loss for each case; got {list(uncertainty.shape)} and "
            f"{list(loss.shape)}"
        )
    flat, losses = uncertainty.detach().double().flatten(), loss.detach().double().flatten()
    if bool(flat.isnan().any()) or bool(losses.isnan().any()):
        raise InputError("uncertainties and losses must not be NaN")
    ordered, order = flat.sort(stable=True)
    _, ties = torch.unique_consecutive(ordered, return_inverse=True)
    sums = torch.zeros_like(ordered).scatter_add_(0, ties, losses[order])
    counts = torch.zeros_like(ordered).scatter_add_(0, ties, torch.ones_like(ordered))
    number = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=ordered.device)
    risk = torch.cumsum((sums / counts)[ties], 0) / number
    return RiskCoverage(number / len(ordered), risk, ordered)


def area_under_risk_coverage(uncertainty: Tensor, loss: Tensor) -> Tensor:
    """AURC (Geifman et al. 2019); arguments as for `risk_coverage`. Lower is better."""
    return risk_coverage(uncertainty, loss).area


def excess_area_under_risk_coverage(uncertainty: Tensor, loss: Tensor) -> Tensor:
    """AURC less that of the order that knows the losses (Geifman et al. 2019): 0 is best.

    Args:
        uncertainty: as for `risk_coverage`.
        loss: as for `risk_coverage`, and finite.

    Raises:
        InputError: an argument does not fit.
    """
    finite(loss)
    return risk_coverage(uncertainty, loss).area - risk_coverage(loss, loss).area


def area_under_generalized_risk_coverage(uncertainty: Tensor, loss: Tensor) -> Tensor:
    """AUGRC (Traub et al. 2024); arguments as for `risk_coverage`. Lower is better."""
    return risk_coverage(uncertainty, loss).generalized_area


def coverage_at_risk(uncertainty: Tensor, loss: Tensor, risk: float) -> Tensor:
    """The largest share of cases that can be kept with at most this risk; 0 if none can.

    Equal uncertainties are kept together or not at all, as a threshold would.

    Args:
        uncertainty: as for `risk_coverage`.
        loss: as for `risk_coverage`.
        risk: what may be.
    """
    curve = risk_coverage(uncertainty, loss)
    last = torch.ones_like(curve.coverage, dtype=torch.bool)
    last[:-1] = curve.threshold[1:] > curve.threshold[:-1]
    kept = curve.coverage[last & (curve.risk <= risk + 1e-12)]
    return kept.amax() if len(kept) else curve.coverage.new_zeros(())


def risk_at_coverage(uncertainty: Tensor, loss: Tensor, coverage: float) -> Tensor:
    """Risk of the smallest number of least uncertain cases that is at least this share of all.

    Args:
        uncertainty: as for `risk_coverage`.
        loss: as for `risk_coverage`.
        coverage: above 0, at most 1.

    Raises:
        InputError: the coverage is no such share.
    """
    if not 0.0 < coverage <= 1.0:
        raise InputError(f"a coverage lies above 0 and is at most 1; got {coverage}")
    curve = risk_coverage(uncertainty, loss)
    return curve.risk[curve.coverage >= coverage - 1e-12][0]


def area_under_sparsification_error(uncertainty: Tensor, loss: Tensor) -> Tensor:
    """AUSE (Ilg et al. 2018): how far throwing out the most uncertain falls behind the best order.

    Mean error of what is left, over the mean error of all, as the most uncertain share is thrown
    out; less the same where those of the largest errors are; averaged over all shares.

    Args:
        uncertainty: of each case, `[N, ...]`.
        loss: errors, of that shape, at least 0 and finite.

    Raises:
        InputError: an argument does not fit, or all errors are 0.
    """
    finite(loss)
    ours, best = risk_coverage(uncertainty, loss), risk_coverage(loss, loss)
    whole = ours.risk[-1]
    if not bool(whole > 0):
        raise InputError("there is no error to be sparsified")
    return ((ours.risk - best.risk) / whole).mean()


def finite(loss: Tensor) -> None:
    """Check losses that are compared with those of the best order.

    Raises:
        InputError: one is infinite.
    """
    if bool(loss.isinf().any()):
        raise InputError(
            "losses must be finite: an infinite one is as bad in any order, and nothing is left to "
            "be compared. Bound them first, a log score by the probability that it is taken of"
        )
