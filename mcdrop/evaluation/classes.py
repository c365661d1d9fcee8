"""Evaluation of probabilities: classes, yes or no, many labels, pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mcdrop.calibration.layout import flat_labels, flat_probs
from mcdrop.calibration.record import Calibration
from mcdrop.evaluation.class_calibration import BINS, class_error, classwise_measure
from mcdrop.evaluation.class_figures import (
    LEVELS,
    class_iou,
    class_measures,
    mean_iou,
    ranked_measures,
    summed_measures,
)
from mcdrop.evaluation.document import Bin, Figure, Histogram, Line, Slice
from mcdrop.evaluation.intervals import wilson
from mcdrop.evaluation.measures import OfSums, ranked_figures, summed_figures
from mcdrop.evaluation.ranking import Kept, risk_line, tenths
from mcdrop.evaluation.resampled import Resampled
from mcdrop.evaluation.resampling import Sums
from mcdrop.evaluation.slices import Groups, slices
from mcdrop.metrics.functional import smooth
from mcdrop.metrics.functional.cases import Cases, cases
from mcdrop.metrics.functional.reliability import equal_width
from mcdrop.prediction import ClassificationPrediction, Prediction
from mcdrop.tasks import AnyTask, Classification, Multilabel

PARTS = 30  # of the histogram of entropies
UNCERTAINTIES = ("entropy", "mutual_information", "variation_ratio")
_MOST_CLASSES = 1000  # for which 128 groups of 15 bins of each are held


class ClassOutcomes:
    """Takes in predictions and labels; keeps sums, and a few numbers of each case.

    Args:
        task: what the model predicts.
        names: of its classes.
        calibration: whose sets are measured.
    """

    def __init__(
        self, task: AnyTask, names: Sequence[str] | None, calibration: Calibration | None
    ) -> None:
        self._task = task
        self._names = names
        self._sets = calibration if calibration is not None and calibration.sets else None
        self._sums = Sums()
        self._of_classes = Sums()
        self._kept = Kept()
        self._groups = Groups()
        self._classes = 2
        self.rows = 0
        self.cases = 0

    def add(
        self, prediction: Prediction, targets: Tensor, groups: Sequence[str] | None = None
    ) -> None:
        """Take in rows.

        Args:
            prediction: of them, calibrated.
            targets: their labels.
            groups: a name for each row.

        Raises:
            InputError: targets do not fit the prediction, or there are too many groups.
        """
        assert isinstance(prediction, ClassificationPrediction)
        labels = flat_labels(self._task, prediction.mean, targets).to(prediction.mean.device)
        found = cases(probs=flat_probs(self._task, prediction.mean), labels=labels)
        self._classes = found.probs.shape[1]
        rows = len(prediction.mean)
        number = torch.arange(self.rows, self.rows + rows, device=labels.device)
        number = number.repeat_interleave(len(labels) // rows)
        columns = self._columns(found, prediction, rows)
        self._sums.add(number, columns)
        self._add_bins(number, found, columns)
        if self._sets is not None:
            self._add_sets(number, self._sets, prediction, labels)
        self._kept.add(
            rows,
            wrong=1.0 - found.correct,
            confidence=found.confidence,
            correct=found.correct,
            **{name: getattr(prediction, name) for name in UNCERTAINTIES},
        )
        if groups is not None:
            self._groups.add(number, groups, columns)
        self.rows += rows
        self.cases += len(labels)

    def figures(self) -> tuple[Figure, ...]:
        """All of them, with intervals."""
        whole = Resampled(self._sums)
        figures = summed_figures(whole, summed_measures(self._task, sets=self._sets is not None))
        over = [mean_iou()] if self._dense else []
        if self._classwise:
            over.append(classwise_measure(self._classes))
        if over:
            figures += summed_figures(Resampled(self._of_classes, whole.groups), over)
        return (*figures, *ranked_figures(self._kept.columns(), ranked_measures(UNCERTAINTIES)))

    def reliability(self) -> tuple[Bin, ...]:
        """The reliability curve."""
        sums = self._sums.totals()
        bins = []
        for place, (count, confidence, correct) in enumerate(
            zip(*(sums[f"bin_{name}"].tolist() for name in _BINNED), strict=True)
        ):
            low, high = wilson(correct, count)
            bins.append(
                Bin(
                    low=place / BINS,
                    high=(place + 1) / BINS,
                    count=round(count),
                    confidence=confidence / count if count else None,
                    accuracy=correct / count if count else None,
                    accuracy_low=low,
                    accuracy_high=high,
                )
            )
        return tuple(bins)

    def risk_coverage(self) -> tuple[Line, ...]:
        """Share of errors of the least uncertain, by each uncertainty."""
        columns = self._kept.columns()
        return tuple(risk_line(name, columns[name], columns["wrong"]) for name in UNCERTAINTIES)

    def uncertainty(self) -> Histogram:
        """Entropy of right and of wrong answers."""
        sums = self._sums.totals()
        counts = {name: sums[f"entropy_{name}"] for name in ("right", "wrong")}
        return Histogram(
            edges=tuple(torch.linspace(0.0, self._most_entropy, PARTS + 1).tolist()),
            shares={
                name: tuple((count / count.sum().clamp_min(1.0)).tolist())
                for name, count in counts.items()
            },
            counts={name: round(float(count.sum())) for name, count in counts.items()},
        )

    def error(self) -> Line:
        """Share of errors in ten parts of rising entropy."""
        columns = self._kept.columns()
        return tenths("entropy", columns["entropy"], columns["wrong"])

    def classes(self) -> tuple[Slice, ...]:
        """Recall, precision, confidence and likelihood of each class."""
        measures: list[OfSums] = class_measures()
        if self._dense:
            measures.append(class_iou())
        if self._classwise:
            measures.append(class_error(self._classes))
        names = [self._name(place) for place in range(self._classes)]
        return slices(names, Resampled(self._of_classes), measures)

    def groups(self) -> tuple[Slice, ...]:
        """Accuracy, confidence, likelihood and entropy of each group of rows."""
        return self._groups.slices(summed_measures(self._task, sets=False), _OF_GROUPS)

    @property
    def _dense(self) -> bool:
        """Whether rows have many cases that are of the same classes, such as pixels."""
        return self.cases > self.rows and not isinstance(self._task, Multilabel)

    @property
    def _classwise(self) -> bool:
        return self._classes <= _MOST_CLASSES

    @property
    def _most_entropy(self) -> float:
        return math.log(self._classes)

    def _name(self, place: int) -> str:
        if self._names is not None and len(self._names) == self._classes:
            return self._names[place]
        return str(place) if isinstance(self._task, Classification) else ("no", "yes")[place]

    def _columns(
        self, found: Cases, prediction: ClassificationPrediction, rows: int
    ) -> Mapping[str, Tensor]:
        squared = (found.probs - found.one_hot).square().sum(1)
        names = ("entropy", "expected_entropy", "mutual_information")
        return {
            "cases": torch.ones_like(found.confidence),
            "rows": torch.full_like(found.confidence, rows / len(found.labels)),
            "confidence": found.confidence,
            "doubt": found.confidence * (1.0 - found.confidence),
            "correct": found.correct,
            # infinite where a label was given no probability: such a mean is no figure
            "nll": -found.probs.gather(1, found.labels[:, None])[:, 0].log(),
            "brier": squared if isinstance(self._task, Classification) else squared / 2.0,
            **{name: getattr(prediction, name).flatten().double() for name in names},
        }

    def _add_bins(self, number: Tensor, found: Cases, columns: Mapping[str, Tensor]) -> None:
        place = equal_width(found.confidence, BINS, found.dtype)
        ones, count = columns["cases"], partial(self._sums.count, number)
        values = (ones, found.confidence, found.correct)
        for name, value in zip(_BINNED, values, strict=True):
            count(f"bin_{name}", place, BINS, value)
        fine = (found.confidence * smooth.GRID).long().clamp_max(smooth.GRID - 1)
        count("residuals", fine, smooth.GRID, found.correct - found.confidence)
        part = (columns["entropy"] / self._most_entropy * PARTS).long().clamp(0, PARTS - 1)
        count("entropy_right", part, PARTS, found.correct)
        count("entropy_wrong", part, PARTS, 1.0 - found.correct)
        count = partial(self._of_classes.count, number)
        count("cases", found.labels, self._classes, ones)
        count("rows", found.labels, self._classes, columns["rows"])
        count("right", found.labels, self._classes, found.correct)
        count("nll", found.labels, self._classes, columns["nll"])
        count("answers", found.probs.argmax(1), self._classes, ones)
        if self._classwise:
            self._add_classwise(number, found)

    def _add_classwise(self, number: Tensor, found: Cases) -> None:
        """Bins of the probability of each class, not of the confidence."""
        shift = torch.arange(self._classes, device=number.device) * BINS
        place = (equal_width(found.probs, BINS, found.dtype) + shift).flatten()
        rows = number.repeat_interleave(self._classes)
        values = (torch.ones_like(found.probs), found.probs, found.one_hot)
        for name, value in zip(_BINNED, values, strict=True):
            size = self._classes * BINS
            self._of_classes.count(rows, f"classwise_{name}", place, size, value.flatten())

    def _add_sets(
        self, number: Tensor, calibration: Calibration, prediction: Prediction, labels: Tensor
    ) -> None:
        for level in LEVELS:
            held = flat_probs(self._task, calibration.conformal_sets(prediction, level))
            inside = held.gather(1, labels[:, None])[:, 0]
            self._sums.add(number, {f"covered_{level}": inside, f"size_{level}": held.sum(1)})


_BINNED = ("count", "confidence", "correct")

_OF_GROUPS = ("accuracy", "mean_confidence", "negative_log_likelihood", "predictive_entropy")
