"""Abstention: no answer where the uncertainty is above a threshold, and what that will cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.selective import coverage_at_risk, risk_coverage


@dataclass(frozen=True, slots=True)
class Abstention:
    """Answers only where the uncertainty is at most a threshold.

    Attributes:
        abstain_above: the threshold, in units of the uncertainty.
        coverage: share of the held-out cases that it answers; NaN where there were none.
        risk: their mean loss; NaN where losses were not known.

    Example:
        >>> import torch
        >>> uncertainty, wrong = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0.0, 0, 0, 1])
        >>> policy = Abstention.at_risk(uncertainty, wrong, risk=0.1)
        >>> policy.coverage, policy(torch.tensor([0.25, 0.5])).tolist()
        (0.75, [False, True])
    """

    abstain_above: float
    coverage: float
    risk: float = float("nan")

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        if math.isnan(self.abstain_above) or self.coverage < 0.0 or self.coverage > 1.0:
            raise InputError(
                "expected a threshold that is a number and a coverage from 0 to 1; got "
                f"{self.abstain_above} and {self.coverage}"
            )

    @classmethod
    def at_coverage(
        cls, uncertainty: Tensor, coverage: float, loss: Tensor | None = None
    ) -> Abstention:
        """The least threshold that answers at least this share of the held-out cases.

        Args:
            uncertainty: of held-out cases, `[N]`.
            coverage: above 0, at most 1.
            loss: of that shape, none of them NaN, to know the risk.

        Raises:
            InputError: an argument does not fit.
        """
        if not 0.0 < coverage <= 1.0:
            raise InputError(f"a coverage lies above 0 and is at most 1; got {coverage}")
        curve = risk_coverage(uncertainty, uncertainty if loss is None else loss)
        first = int((curve.coverage < coverage - 1e-12).sum())
        return cls._above(uncertainty, loss, float(curve.threshold[first]))

    @classmethod
    def at_risk(cls, uncertainty: Tensor, loss: Tensor, risk: float) -> Abstention:
        """The threshold that answers most, with at most this mean loss of what is answered.

        Args:
            uncertainty: of held-out cases, `[N]`.
            loss: of that shape.
            risk: what may be; held-out risk, which new cases will scatter around.

        Raises:
            InputError: an argument does not fit, or even the surest cases have a larger risk.
        """
        most = float(coverage_at_risk(uncertainty, loss, risk))
        if most == 0.0:
            raise InputError(f"no threshold has a risk of at most {risk}: ask for more")
        curve = risk_coverage(uncertainty, loss)
        last = round(most * len(curve.threshold)) - 1
        return cls._above(uncertainty, loss, float(curve.threshold[last]))

    @classmethod
    def _above(cls, uncertainty: Tensor, loss: Tensor | None, threshold: float) -> Abstention:
        answered = uncertainty.double() <= threshold
        risk = float("nan") if loss is None else float(loss.double()[answered].mean())
        return cls(threshold, float(answered.double().mean()), risk)

    def __call__(self, uncertainty: Tensor) -> Tensor:
        """Where no answer is to be given, bool of the same shape; NaN is not answered."""
        return ~(uncertainty.double() <= self.abstain_above)
