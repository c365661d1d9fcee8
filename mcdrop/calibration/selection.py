"""What abstaining above each threshold costs, measured on held-out cases."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mcdrop.calibration.abstention import Abstention
from mcdrop.errors import InputError
from mcdrop.metrics.functional.selective import risk_coverage

_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """Coverage and risk of answering up to a threshold, for at most a thousand thresholds.

    Attributes:
        uncertainty: which one: `"entropy"` in nats, or `"std"`, the predictive standard deviation
            in units of the target.
        thresholds: rising.
        coverage: share of held-out cases whose uncertainty is at most that.
        risk: their mean loss: share of errors, or mean squared error.

    Example:
        >>> entropy, wrong = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0.0, 0, 0, 1])
        >>> Selection.of("entropy", entropy, wrong).policy(0.5)
        Abstention(abstain_above=0.5, coverage=0.75, risk=0.0)
    """

    uncertainty: str
    thresholds: tuple[float, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]

    def __post_init__(self) -> None:
        columns = (self.thresholds, self.coverage, self.risk)
        if not self.thresholds or len({len(column) for column in columns}) > 1:
            raise InputError("a selection has a coverage and a risk for each of its thresholds")
        for name, column in (("thresholds", self.thresholds), ("coverage", self.coverage)):
            if any(a >= b for a, b in pairwise(column)):
                raise InputError(f"the {name} of a selection must rise")
        if not all(math.isfinite(value) for column in columns for value in column):
            raise InputError("a selection holds finite numbers only")
        if not 0.0 < self.coverage[0] <= self.coverage[-1] <= 1.0:
            raise InputError("a selection's coverage lies above 0 and is at most 1")

    @classmethod
    def of(cls, uncertainty: str, values: Tensor, loss: Tensor) -> Selection:
        """Sort held-out cases by their uncertainty.

        Args:
            uncertainty: its name.
            values: of each case, `[N, ...]`.
            loss: of that shape.

        Raises:
            InputError: shapes differ, or a value is not finite.
        """
        if not bool(values.isfinite().all() and loss.isfinite().all()):
            raise InputError("uncertainties and losses of held-out cases must be finite")
        curve = risk_coverage(values, loss)
        last = torch.ones_like(curve.coverage, dtype=torch.bool)  # of equal uncertainties
        last[:-1] = curve.threshold[1:] > curve.threshold[:-1]
        places = last.nonzero().flatten()
        if len(places) > _KEPT:
            some = torch.linspace(0, len(places) - 1, _KEPT, device=places.device).round().long()
            places = places[some.unique()]
        return cls(
            uncertainty,
            tuple(curve.threshold[places].tolist()),
            tuple(curve.coverage[places].tolist()),
            tuple(curve.risk[places].tolist()),
        )

    def policy(self, abstain_above: float) -> Abstention:
        """Abstain above a threshold, with the coverage and the risk that it had.

        Args:
            abstain_above: in units of the uncertainty, a finite number.

        Raises:
            InputError: it is not.
        """
        if not math.isfinite(abstain_above):
            raise InputError(f"abstain_above must be a finite number; got {abstain_above}")
        place = bisect_right(self.thresholds, abstain_above) - 1
        if place < 0:
            return Abstention(abstain_above, 0.0, math.nan)
        return Abstention(abstain_above, self.coverage[place], self.risk[place])
