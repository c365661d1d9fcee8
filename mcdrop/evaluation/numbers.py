"""Evaluation of predicted numbers: their means, deviations and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mcdrop.calibration.layout import shaped_targets
from mcdrop.calibration.record import Calibration
from mcdrop.evaluation.document import Figure, Histogram, Line, Slice
from mcdrop.evaluation.measures import ranked_figures, summed_figures
from mcdrop.evaluation.number_figures import (
    QUANTILES,
    interval_names,
    main_level,
    measured_levels,
    output_measures,
    r2_score,
    ranked_measures,
    summed_measures,
)
from mcdrop.evaluation.ranking import Kept, risk_line, tenths
from mcdrop.evaluation.resampled import Resampled
from mcdrop.evaluation.resampling import Sums
from mcdrop.evaluation.slices import Groups, slices
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
        self._groups = Groups()
        self._of_outputs = Sums()
        self._middle: Tensor | None = None
        self._outputs = 1
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
        error = target - mean
        columns = {
            "cases": torch.ones_like(mean),
            "rows": torch.full_like(mean, rows / len(mean)),
            "squared": error.square(),
            "absolute": error.abs(),
            "nll": -log_densities(mean, std, target),
            "crps": gaussian_crps(mean, std, target),
            "variance": std.square(),
            "epistemic": prediction.epistemic.flatten().double(),
            **self._intervals(prediction, truth),
        }
        self._sums.add(number, columns)
        self._add_levels(number, prediction, truth)
        self._add_outputs(number, prediction, target, columns)
        self._kept.add(rows, std=std, mean=mean, target=target, error=error.abs())
        if groups is not None:
            self._groups.add(number, groups, columns)
        self.rows += rows
        self.cases += len(mean)

    def figures(self) -> tuple[Figure, ...]:
        """All of them, with intervals."""
        whole = Resampled(self._sums)
        figures = summed_figures(whole, summed_measures(self._calibration))
        outputs = Resampled(self._of_outputs, whole.groups)
        figures[2:2] = summed_figures(outputs, [r2_score()])  # behind the errors
        ranked = ranked_measures(self._calibration)
        return (*figures, *ranked_figures(self._kept.columns(), ranked))

    def notes(self) -> tuple[str, ...]:
        """What is left out, and why."""
        return (_NO_DENSITY,) if self._calibration.moves_quantiles else ()

    def risk_coverage(self) -> tuple[Line, ...]:
        """Root mean squared error of the least uncertain, by the predicted deviation."""
        columns = self._kept.columns()
        return (risk_line("std", columns["std"], columns["error"].square(), root=True),)

    def error(self) -> Line | None:
        """Root mean squared error in ten parts of rising deviation."""
        if self._calibration.moves_quantiles:
            return None
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

    def outputs(self) -> tuple[Slice, ...]:
        """Errors, R² and intervals of each number that is predicted, where there are several."""
        if self._outputs == 1:
            return ()
        names = [str(place) for place in range(self._outputs)]
        return slices(names, Resampled(self._of_outputs), output_measures(self._calibration))

    def groups(self) -> tuple[Slice, ...]:
        """Errors, deviations and coverage of each group of rows."""
        wanted = (*_OF_GROUPS, interval_names(main_level(self._calibration))[0])
        return self._groups.slices(summed_measures(self._calibration), wanted)

    def _intervals(self, prediction: RegressionPrediction, truth: Tensor) -> Mapping[str, Tensor]:
        columns = {}
        for level in measured_levels(self._calibration):
            lower, upper = self._calibration.interval(prediction, level)
            columns[f"covered_{level}"] = _within(truth, (lower, upper)).flatten()
            columns[f"width_{level}"] = (upper - lower).flatten()
        return columns

    def _add_levels(self, number: Tensor, prediction: RegressionPrediction, truth: Tensor) -> None:
        """How often targets lie below quantiles, and within intervals, of many levels."""
        calibration = self._calibration
        quantiles = [truth <= calibration.quantile(prediction, level) for level in QUANTILES]
        kinds = {"central": calibration.quantile_interval}
        if calibration.intervals is not None and calibration.fitted_level is None:
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

    def _add_outputs(
        self,
        number: Tensor,
        prediction: RegressionPrediction,
        target: Tensor,
        columns: Mapping[str, Tensor],
    ) -> None:
        """Sums of each output: `[B, D]` has D of them, any other shape is one."""
        shape = prediction.mean.shape
        self._outputs = shape[1] if len(shape) == 2 else 1
        place = torch.arange(len(target), device=target.device) % self._outputs
        if self._middle is None:  # sums of squares about some target lose no digits
            self._middle = target[: self._outputs]
        apart = target - self._middle[place]
        level = main_level(self._calibration)
        names = ("cases", "rows", "squared", "absolute", f"covered_{level}", f"width_{level}")
        sums = {name: columns[name] for name in names}
        sums |= {"rows": columns["rows"] * self._outputs}
        sums |= {"target": apart, "target_squared": apart.square()}
        for name, column in sums.items():
            self._of_outputs.count(number, name, place, self._outputs, column)


_OF_GROUPS = (
    "root_mean_squared_error",
    "mean_absolute_error",
    "sharpness",
    "gaussian_negative_log_likelihood",
)
_NO_DENSITY = (
    "Recalibrated quantiles have no density, and no deviation of their own: figures of a normal "
    "distribution (negative log-likelihood, CRPS, sharpness, ENCE, UCE) are left out."
)


def _within(truth: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    return (bounds[0] <= truth) & (truth <= bounds[1])
