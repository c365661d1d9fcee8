"""`Calibration`: the calibrators that travel with a model, and what they make of a prediction."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.calibration.abstention import Abstention
from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.layout import flat_probs, shaped_probs
from mcdrop.calibration.outputs import (
    IntervalKind,
    NumberScaling,
    OutputIntervals,
    OutputScalings,
)
from mcdrop.calibration.rules import IntervalRule, SetRule
from mcdrop.calibration.scaling import (
    MatrixScaling,
    SampleTemperature,
    Temperature,
    VectorScaling,
)
from mcdrop.calibration.selection import Selection
from mcdrop.errors import InputError
from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction
from mcdrop.tasks import AnyTask, Classification, Gaussian, Regression

ProbabilityScaling: TypeAlias = (
    Temperature
    | SampleTemperature
    | VectorScaling
    | MatrixScaling
    | HistogramBinning
    | IsotonicCalibration
)

P = TypeVar("P", bound=Prediction)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted on held-out cases; `MCDropout.calibration` holds it, artifacts carry it.

    Attributes:
        task: of the model that it was fitted for.
        scaling: recalibrates probabilities or standard deviations; `predict` applies it. Where a
            model predicts several numbers, of each on its own.
        sets: conformal sets, for classes.
        intervals: conformal intervals, for numbers; likewise.
        selection: what abstaining costs.
        cases: held-out cases that all of it was fitted on.
        scaling_cases: those of them that `scaling` was fitted on; sets and quantiles had the rest.
        source: where they are from.
    """

    task: AnyTask
    scaling: ProbabilityScaling | NumberScaling | OutputScalings | None = None
    sets: SetRule | None = None
    intervals: IntervalKind | OutputIntervals | None = None
    selection: Selection | None = None
    cases: int = 0
    scaling_cases: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        numbers = isinstance(self.task, Regression | Gaussian)
        of_numbers = isinstance(self.scaling, NumberScaling | OutputScalings)
        if self.scaling is not None and numbers != of_numbers:
            name = type(self.scaling).__name__
            raise InputError(f"{name} does not calibrate what a {self.task.kind} model predicts")
        if self.sets is not None and not isinstance(self.task, Classification):
            raise InputError(f"conformal sets are for classification; this is {self.task.kind}")
        if self.intervals is not None and not numbers:
            raise InputError(f"conformal intervals are for numbers; this is {self.task.kind}")

    @property
    def temperature(self) -> float:
        """Of the logits of each sample, inside of the average over them; 1 for none."""
        scaling = self.scaling
        return scaling.temperature if isinstance(scaling, SampleTemperature) else 1.0

    @property
    def moves_quantiles(self) -> bool:
        """Whether quantiles are recalibrated, so that `mean` and `variance` do not tell them."""
        return isinstance(_first(self.scaling), QuantileRecalibration)

    @property
    def fitted_level(self) -> float | None:
        """The one level that conformal quantiles were fitted for; `None` where any can be had."""
        rule = _first(self.intervals)
        return rule.level if isinstance(rule, ConformalQuantiles) else None

    def apply(self, prediction: P) -> P:
        """A calibrated prediction.

        Of classes `mean` and `entropy` change. `expected_entropy`, `mutual_information`,
        `variation_ratio`, `variance` and `standard_error` stay what the samples say. (A temperature
        inside of the average is at work in each sample: all of them follow it, and nothing is left
        to be done here.) Of numbers `variance`, `epistemic` and `aleatoric` grow by the square of
        the factor.

        Args:
            prediction: of the model that this was fitted for, not calibrated yet.

        Raises:
            InputError: it does not fit.
        """
        made: Prediction = prediction
        if isinstance(prediction, ClassificationPrediction):
            made = self._classes(prediction)
        elif isinstance(prediction, RegressionPrediction):
            made = self._numbers(prediction)
        assert isinstance(made, type(prediction))
        return made

    def conformal_sets(self, prediction: Prediction, level: float = 0.9) -> Tensor:
        """Which classes are in the set of each case, bool, of the shape of `mean`.

        Args:
            prediction: calibrated.
            level: probability that the right class is to be in the set.

        Raises:
            InputError: no sets were fitted, or the level is not strictly between 0 and 1.
        """
        if self.sets is None:
            raise InputError("no conformal sets were fitted for this model: see `mcdrop calibrate`")
        held = self.sets.at(level)(flat_probs(self.task, prediction.mean))
        return shaped_probs(self.task, held, prediction.mean)

    def interval(self, prediction: Prediction, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds, each of the shape of `mean`.

        Conformal where such intervals were fitted; else between recalibrated quantiles, else of the
        normal distribution.

        Args:
            prediction: calibrated.
            level: probability that the target is to lie between them.

        Raises:
            InputError: the level is not strictly between 0 and 1, or not the one fitted for.
        """
        if not isinstance(prediction, RegressionPrediction):
            raise InputError("intervals are for numbers; classes have conformal_sets")
        outputs = self._outputs(prediction)
        if outputs:
            bounds = [own.interval(part, level) for own, part in outputs]
            return torch.cat([b[0] for b in bounds], -1), torch.cat([b[1] for b in bounds], -1)
        if isinstance(self.intervals, IntervalRule):
            rule = self.intervals.at(level)
            return rule(prediction.mean, prediction.variance.sqrt() if rule.scaled else None)
        if isinstance(self.intervals, ConformalQuantiles) and level != self.intervals.level:
            raise InputError(
                f"conformal quantiles were fitted for the level {self.intervals.level}; got {level}"
            )
        lower, upper = self.quantile_interval(prediction, level)
        if isinstance(self.intervals, ConformalQuantiles):
            return self.intervals(lower, upper)
        return lower, upper

    def has_interval(self, level: float) -> bool:
        """Whether `interval` has this level: conformal quantiles have the one they were fitted for.

        Args:
            level: strictly between 0 and 1.
        """
        return self.fitted_level in (None, level)

    def quantile(self, prediction: RegressionPrediction, level: float) -> Tensor:
        """A quantile of the calibrated distribution, of the shape of `mean`.

        Args:
            prediction: calibrated.
            level: strictly between 0 and 1.

        Raises:
            InputError: the level is not.
        """
        outputs = self._outputs(prediction)
        if outputs:
            return torch.cat([own.quantile(part, level) for own, part in outputs], -1)
        if isinstance(self.scaling, QuantileRecalibration):
            return self.scaling.quantile(prediction.mean, prediction.variance.sqrt(), level)
        return prediction.quantile(level)

    def quantile_interval(
        self, prediction: RegressionPrediction, level: float
    ) -> tuple[Tensor, Tensor]:
        """Central interval of the calibrated distribution, nothing conformal: (lower, upper).

        Args:
            prediction: calibrated.
            level: strictly between 0 and 1.

        Raises:
            InputError: the level is not.
        """
        tail = (1.0 - inside(level)) / 2.0
        return self.quantile(prediction, tail), self.quantile(prediction, 1.0 - tail)

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """What `selection` is about: entropy, or predictive standard deviation."""
        if isinstance(prediction, ClassificationPrediction):
            return prediction.entropy
        return prediction.variance.sqrt()

    def abstention(self, abstain_above: float) -> Abstention:
        """A policy with the coverage and the risk that it had on held-out cases.

        Raises:
            InputError: none was fitted, or the threshold is no finite number.
        """
        if self.selection is None:
            raise InputError("what abstaining costs was not measured: see `mcdrop calibrate`")
        return self.selection.policy(abstain_above)

    def describe(self) -> str:
        """The calibrators in words, such as `"Temperature, conformal sets (thr)"`."""
        words = []
        if self.scaling is not None:
            words.append(type(_first(self.scaling)).__name__)
        if self.sets is not None:
            words.append(f"conformal sets ({self.sets.score})")
        match _first(self.intervals):
            case IntervalRule(scaled=scaled):
                words.append(f"conformal intervals ({'scaled' if scaled else 'absolute'})")
            case ConformalQuantiles(level=level):
                words.append(f"conformal quantiles ({level:g})")
        return ", ".join(words)

    def _classes(self, prediction: ClassificationPrediction) -> ClassificationPrediction:
        if self.scaling is None or isinstance(self.scaling, SampleTemperature):
            return prediction
        flat = flat_probs(self.task, prediction.mean)
        match self.scaling:
            case HistogramBinning() | IsotonicCalibration():
                made = self.scaling(flat)
            case Temperature() | VectorScaling() | MatrixScaling():
                made = self.scaling(probs=flat)
            case _:
                raise AssertionError(self.scaling)
        mean = shaped_probs(self.task, made, prediction.mean)
        return dataclasses.replace(prediction, mean=mean, entropy=self.entropy(mean))

    def entropy(self, probs: Tensor) -> Tensor:
        """Of probabilities in the shape of a prediction's mean, in nats."""
        if isinstance(self.task, Classification):
            terms: Tensor = torch.special.entr(probs)
            return terms.sum(self.task.dim)
        two: Tensor = torch.special.entr(probs) + torch.special.entr(1.0 - probs)
        return two

    def _numbers(self, prediction: RegressionPrediction) -> RegressionPrediction:
        outputs = self._outputs(prediction)
        if outputs:
            parts = [own.apply(part).fields() for own, part in outputs]
            joined = {
                name: torch.cat([part[name] for part in parts], -1)
                for name in ("variance", "epistemic", "aleatoric")
            }
            return dataclasses.replace(prediction, **joined)
        if not isinstance(self.scaling, DeviationScaling):
            return prediction
        square = self.scaling.factor**2
        return dataclasses.replace(
            prediction,
            variance=prediction.variance * square,
            epistemic=prediction.epistemic * square,
            aleatoric=prediction.aleatoric * square,
        )

    def _outputs(
        self, prediction: RegressionPrediction
    ) -> list[tuple[Calibration, RegressionPrediction]]:
        """Each output's own calibration and prediction, `[B, 1]`; nothing where one serves all.

        Raises:
            InputError: the prediction has another number of outputs.
        """
        scalings, intervals = self.scaling, self.intervals
        several = [
            p for p in (scalings, intervals) if isinstance(p, OutputScalings | OutputIntervals)
        ]
        if not several:
            return []
        count = len(several[0].parts)
        if prediction.mean.ndim != 2 or prediction.mean.shape[1] != count:
            raise InputError(
                f"fitted for {count} outputs; got a prediction {list(prediction.mean.shape)}"
            )
        return [
            (
                dataclasses.replace(
                    self,
                    scaling=scalings.parts[i] if isinstance(scalings, OutputScalings) else scalings,
                    intervals=(
                        intervals.parts[i] if isinstance(intervals, OutputIntervals) else intervals
                    ),
                ),
                columns_of(prediction, slice(i, i + 1)),
            )
            for i in range(count)
        ]


def columns_of(prediction: RegressionPrediction, some: slice) -> RegressionPrediction:
    """Some outputs of a prediction `[B, D]`."""
    parts = {n: v if n == "samples" else v[:, some] for n, v in prediction.fields().items()}
    return RegressionPrediction(**parts)


def _first(part: object) -> object:
    """The calibrator of the first output, where each has one of its own; they are of one kind."""
    return part.parts[0] if isinstance(part, OutputScalings | OutputIntervals) else part
