"""Evaluation of probabilities: classes, yes or no, many labels, pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcdrop.calibration.layout import flat_labels, flat_probs
from mcdrop.calibration.record import Calibration
from mcdrop.evaluation.class_figures import BINS, LEVELS, ranked_measures, summed_measures
from mcdrop.evaluation.document import Bin, Figure, Histogram, Line, Slice
from mcdrop.evaluation.measures import ranked_figures, summed_figures
from mcdrop.evaluation.ranking import Kept, risk_line, tenths
from mcdrop.evaluation.resampling import Sums, wilson
from mcdrop.evaluation.slices import Slices
from mcdrop.metrics.functional import smooth
from mcdrop.metrics.functional.cases import Cases, cases
from mcdrop.metrics.functional.reliability import equal_width
from mcdrop.prediction import ClassificationPrediction, Prediction
from mcdrop.tasks import AnyTask, Classification

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
        self._kept = Kept()
        self._groups = Slices()
        self._grouped = False
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
        columns = self._columns(found, prediction)
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
            ids = self._groups.ids(groups).repeat_interleave(len(labels) // rows)
            self._groups.add(ids, columns)
            self._grouped = True
        self.rows += rows
        self.cases += len(labels)

    def figures(self) -> tuple[Figure, ...]:
        """All of them, with intervals."""
        classwise = self._classes if self._classes <= _MOST_CLASSES else None
        summed = summed_measures(self._task, classwise, sets=self._sets is not None)
        ranked = ranked_measures(UNCERTAINTIES)
        return (
            *summed_figures(self._sums, summed),
            *ranked_figures(self._kept.columns(), ranked),
        )

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
        sums = self._sums.totals()
        slices = []
        for place in range(self._classes):
            count, right, answers, nll = (
                float(sums[f"class_{name}"][place]) for name in ("cases", "right", "answers", "nll")
            )
            slices.append(
                Slice(
                    name=self._name(place),
                    cases=round(count),
                    figures={
                        "recall": _ratio(right, count),
                        "precision": _ratio(right, answers),
                        "negative_log_likelihood": _ratio(nll, count),
                        "expected_calibration_error": self._class_error(sums, place),
                    },
                )
            )
        return tuple(slices)

    def groups(self) -> tuple[Slice, ...]:
        """Accuracy, confidence and likelihood of each group of rows."""
        if not self._grouped:
            return ()
        return tuple(
            Slice(
                name=name,
                cases=round(sums["cases"]),
                figures={
                    "accuracy": _ratio(sums["correct"], sums["cases"]),
                    "mean_confidence": _ratio(sums["confidence"], sums["cases"]),
                    "negative_log_likelihood": _ratio(sums["nll"], sums["cases"]),
                    "predictive_entropy": _ratio(sums["entropy"], sums["cases"]),
                },
            )
            for name, sums in self._groups.totals()
        )

    @property
    def _most_entropy(self) -> float:
        return math.log(self._classes)

    def _name(self, place: int) -> str:
        if self._names is not None and len(self._names) == self._classes:
            return self._names[place]
        return str(place) if isinstance(self._task, Classification) else ("no", "yes")[place]

    def _columns(self, found: Cases, prediction: ClassificationPrediction) -> Mapping[str, Tensor]:
        squared = (found.probs - found.one_hot).square().sum(1)
        names = ("entropy", "expected_entropy", "mutual_information")
        return {
            "cases": torch.ones_like(found.confidence),
            "confidence": found.confidence,
            "correct": found.correct,
            # infinite where a label was given no probability: such a mean is no figure
            "nll": -found.probs.gather(1, found.labels[:, None])[:, 0].log(),
            "brier": squared if isinstance(self._task, Classification) else squared / 2.0,
            **{name: getattr(prediction, name).flatten().double() for name in names},
        }

    def _add_bins(self, number: Tensor, found: Cases, columns: Mapping[str, Tensor]) -> None:
        place = equal_width(found.confidence, BINS, found.dtype)
        ones, count = columns["cases"], self._sums.count
        values = (ones, found.confidence, found.correct)
        for name, value in zip(_BINNED, values, strict=True):
            count(number, f"bin_{name}", place, BINS, value)
        fine = (found.confidence * smooth.GRID).long().clamp_max(smooth.GRID - 1)
        count(number, "residuals", fine, smooth.GRID, found.correct - found.confidence)
        part = (columns["entropy"] / self._most_entropy * PARTS).long().clamp(0, PARTS - 1)
        count(number, "entropy_right", part, PARTS, found.correct)
        count(number, "entropy_wrong", part, PARTS, 1.0 - found.correct)
        count(number, "class_cases", found.labels, self._classes, ones)
        count(number, "class_right", found.labels, self._classes, found.correct)
        count(number, "class_nll", found.labels, self._classes, columns["nll"])
        count(number, "class_answers", found.probs.argmax(1), self._classes, ones)
        if self._classes <= _MOST_CLASSES:
            self._add_classwise(number, found)

    def _add_classwise(self, number: Tensor, found: Cases) -> None:
        """Bins of the probability of each class, not of the confidence."""
        shift = torch.arange(self._classes, device=number.device) * BINS
        place = (equal_width(found.probs, BINS, found.dtype) + shift).flatten()
        rows = number.repeat_interleave(self._classes)
        values = (torch.ones_like(found.probs), found.probs, found.one_hot)
        for name, value in zip(_BINNED, values, strict=True):
            size = self._classes * BINS
            self._sums.count(rows, f"classwise_{name}", place, size, value.flatten())

    def _class_error(self, sums: Mapping[str, Tensor], place: int) -> float | None:
        if "classwise_count" not in sums:
            return None
        part = slice(place * BINS, (place + 1) * BINS)
        count, sure, right = (sums[f"classwise_{name}"][part] for name in _BINNED)
        return float((right - sure).abs().sum() / count.sum())

    def _add_sets(
        self, number: Tensor, calibration: Calibration, prediction: Prediction, labels: Tensor
    ) -> None:
        for level in LEVELS:
            held = flat_probs(self._task, calibration.conformal_sets(prediction, level))
            inside = held.gather(1, labels[:, None])[:, 0]
            self._sums.add(number, {f"covered_{level}": inside, f"size_{level}": held.sum(1)})


_BINNED = ("count", "confidence", "correct")


def _ratio(part: float, whole: float) -> float | None:
    share = part / whole if whole else math.nan
    return share if math.isfinite(share) else None
