"""Evaluation of predicted numbers: their means, deviations and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mcdrop.calibration.layout import shaped_targets
from mcdrop.calibration.record import Calibration
from mcdrop.calibration.rules import IntervalRule
from mcdrop.evaluation.document import Figure, Histogram, Line, Slice
from mcdrop.evaluation.measures import ranked_figures, summed_figures
from mcdrop.evaluation.number_figures import LEVELS, QUANTILES, ranked_measures, summed_measures
from mcdrop.evaluation.ranking import Kept, risk_line, tenths
from mcdrop.evaluation.resampling import Sums
from mcdrop.evaluation.slices import Slices
from mcdrop.metrics.functional.densities import gaussian_crps, gaussians, log_densities
from mcdrop.prediction import Prediction, RegressionPrediction
from mcdrop.tasks import AnyTask

_CURVE = tuple(place / 20 for place in range(1, 20))  # levels of the coverage curve


class NumberOutcomes:
    """Takes in predictions and targets; keeps sums, and a few numbers of each case.

    Args:
        task: what the model predicts.
        calibration: whose intervals and quantiles are measured.
    """

    def __init__(self, task: AnyTask, calibration: Calibration | None) -> None:
        self._calibration = Calibration(task) if calibration is None else calibration
        self._sums = Sums()
        self._kept = Kept()
        self._groups = Slices()
        self._grouped = False
        self._middle: float | None = None
        self.rows = 0
        self.cases = 0

    def add(
        self, prediction: Prediction, targets: Tensor, groups: Sequence[str] | None = None
    ) -> None:
        """Take in rows.

        Args:
            prediction: of them, calibrated.
            targets: what turned out to be true.
            groups: a name for each row.

        Raises:
            InputError: targets do not fit the prediction, a predicted variance is 0, or there are
                too many groups.
        """
        assert isinstance(prediction, RegressionPrediction)
        truth = shaped_targets(prediction.mean, targets)
        wide = gaussians(prediction.mean, prediction.variance.sqrt(), truth)
        mean, std, target = (values.flatten() for values in wide)
        rows = len(prediction.mean)
        number = torch.arange(self.rows, self.rows + rows, device=mean.device)
        number = number.repeat_interleave(len(mean) // rows)
        if self._middle is None:  # sums of squares about some target lose no digits
            self._middle = float(target[0])
        error = target - mean
        columns = {
            "cases": torch.ones_like(mean),
            "squared": error.square(),
            "absolute": error.abs(),
            "nll": -log_densities(mean, std, target),
            "crps": gaussian_crps(mean, std, target),
            "variance": std.square(),
            "epistemic": prediction.epistemic.flatten().double(),
            "target": target - self._middle,
            "target_squared": (target - self._middle).square(),
            **self._intervals(prediction, truth),
        }
        self._sums.add(number, columns)
        self._add_levels(number, prediction, truth)
        self._kept.add(rows, std=std, mean=mean, target=target, error=error.abs())
        if groups is not None:
            ids = self._groups.ids(groups).repeat_interleave(len(mean) // rows)
            self._groups.add(ids, columns)
            self._grouped = True
        self.rows += rows
        self.cases += len(mean)

    def figures(self) -> tuple[Figure, ...]:
        """All of them, with intervals."""
        return (
            *summed_figures(self._sums, summed_measures(self._calibration)),
            *ranked_figures(self._kept.columns(), ranked_measures()),
        )

    def risk_coverage(self) -> tuple[Line, ...]:
        """Root mean squared error of the least uncertain, by the predicted deviation."""
        columns = self._kept.columns()
        return (risk_line("std", columns["std"], columns["error"].square(), root=True),)

    def error(self) -> Line:
        """Root mean squared error in ten parts of rising deviation."""
        columns = self._kept.columns()
        return tenths("std", columns["std"], columns["error"], root=True)

    def pit(self) -> Histogram:
        """Where targets lie in their predicted distributions, in ten parts."""
        sums = self._sums.totals()
        shares = sums["below"] / sums["cases"]
        tens = [0.0, *(float(shares[10 * place - 1]) for place in range(1, 10)), 1.0]
        return Histogram(
            edges=tuple(place / 10 for place in range(11)),
            shares={"targets": tuple(b - a for a, b in pairwise(tens))},
            counts={"targets": self.cases},
        )

    def coverage(self) -> tuple[Line, ...]:
        """Share of targets in central intervals of rising level; of conformal ones, too."""
        sums = self._sums.totals()
        names = {"central": "predicted distribution", "conformal": "conformal intervals"}
        return tuple(
            Line(name=name, x=_CURVE, y=tuple((sums[key] / sums["cases"]).tolist()))
            for key, name in names.items()
            if key in sums
        )

    def groups(self) -> tuple[Slice, ...]:
        """Errors, deviations and coverage of each group of rows."""
        if not self._grouped:
            return ()
        return tuple(
            Slice(
                name=name,
                cases=round(sums["cases"]),
                figures={
                    "root_mean_squared_error": math.sqrt(sums["squared"] / sums["cases"]),
                    "mean_absolute_error": sums["absolute"] / sums["cases"],
                    "sharpness": math.sqrt(sums["variance"] / sums["cases"]),
                    "negative_log_likelihood": sums["nll"] / sums["cases"],
                    "coverage_90": sums["covered_0.9"] / sums["cases"],
                },
            )
            for name, sums in self._groups.totals()
        )

    def _intervals(self, prediction: RegressionPrediction, truth: Tensor) -> Mapping[str, Tensor]:
        columns = {}
        for level in LEVELS:
            if not self._calibration.has_interval(level):
                continue
            lower, upper = self._calibration.interval(prediction, level)
            columns[f"covered_{level}"] = _within(truth, (lower, upper)).flatten()
            columns[f"width_{level}"] = (upper - lower).flatten()
        return columns

    def _add_levels(self, number: Tensor, prediction: RegressionPrediction, truth: Tensor) -> None:
        """How often targets lie below quantiles, and within intervals, of many levels."""
        calibration = self._calibration
        quantiles = [truth <= calibration.quantile(prediction, level) for level in QUANTILES]
        kinds = {"central": calibration.quantile_interval}
        if isinstance(calibration.intervals, IntervalRule):
            kinds["conformal"] = calibration.interval
        held = {
            name: [_within(truth, of(prediction, level)) for level in _CURVE]
            for name, of in kinds.items()
        }
        columns = {"below": quantiles, **held}
        stacked = {
            name: torch.stack([one.flatten() for one in each], 1) for name, each in columns.items()
        }
        self._sums.add(number, stacked)


def _within(truth: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    return (bounds[0] <= truth) & (truth <= bounds[1])
