"""The figures of an evaluation of probabilities, from what `ClassOutcomes` keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mcdrop.evaluation.measures import Measure, Ranked, Summed, Totals
from mcdrop.metrics.functional import selective, smooth
from mcdrop.metrics.functional.detection import detection_auroc
from mcdrop.metrics.functional.reliability import ReliabilityCurve, adaptive_error
from mcdrop.tasks import AnyTask, Classification

BINS = 15
LEVELS = (0.8, 0.9, 0.95)
WORDS = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "variation_ratio": "variation ratio",
}


def summed_measures(task: AnyTask, classes: int | None, *, sets: bool) -> list[Summed]:
    """What comes from sums.

    Args:
        task: whose Brier score is of classes, or half of that.
        classes: for the classwise error; `None` for none.
        sets: whether conformal sets were measured.
    """
    whole = isinstance(task, Classification)
    found = [
        _mean("accuracy", "Accuracy", "higher", "share of cases that are right", "correct", 1.0),
        _mean(
            "negative_log_likelihood",
            "Negative log-likelihood",
            "lower",
            "mean of -log p(label), in nats; none where a label was given probability 0",
            "nll",
        ),
        _mean(
            "brier_score",
            "Brier score",
            "lower",
            "mean squared error of the probabilities, "
            + ("summed over classes: 0 to 2" if whole else "of yes: 0 to 1"),
            "brier",
            2.0 if whole else 1.0,
        ),
        *_calibration(classes),
        _uncertainty("predictive_entropy", "Entropy", "total uncertainty, in nats", "entropy"),
        _uncertainty(
            "expected_entropy",
            "Expected entropy",
            "aleatoric uncertainty: entropy within samples, in nats",
            "expected_entropy",
        ),
        _uncertainty(
            "mutual_information",
            "Mutual information",
            "epistemic uncertainty: what samples disagree about, in nats",
            "mutual_information",
        ),
    ]
    return found + [each for level in LEVELS if sets for each in _sets(level)]


def ranked_measures(uncertainties: Sequence[str]) -> list[Ranked]:
    """What needs the cases in order."""
    error = "adaptive_calibration_error"
    measures = [
        Ranked(
            Measure(
                error,
                "Adaptive calibration error",
                "calibration",
                "lower",
                f"ECE over {BINS} bins of equal mass",
                low=0.0,
                high=1.0,
            ),
            partial(adaptive_error, bins=BINS),
            ("confidence", "correct"),
        )
    ]
    areas = (
        ("area_under_risk_coverage", "AURC", "mean share of errors over all coverages"),
        ("excess_area_under_risk_coverage", "Excess AURC", "AURC beyond the best possible order's"),
        (
            "area_under_generalized_risk_coverage",
            "AUGRC",
            "mean share of all cases that are errors and are kept",
        ),
    )
    for name, title, meaning in areas:
        measure = Measure(name, title, "selective", "lower", f"by entropy: {meaning}", 0.0, 1.0)
        measures.append(Ranked(measure, getattr(selective, name), ("entropy", "wrong")))
    for name in uncertainties:
        measure = Measure(
            f"error_auroc_{name}",
            f"AUROC of errors, {WORDS[name]}",
            "selective",
            "higher",
            "chance that a wrong answer is more uncertain than a right one; 0.5 tells nothing",
            0.0,
            1.0,
        )
        measures.append(Ranked(measure, _error_auroc, (name, "wrong")))
    return measures


def _error_auroc(uncertainty: Tensor, wrong: Tensor) -> Tensor:
    right, missed = uncertainty[wrong == 0], uncertainty[wrong == 1]
    if len(right) == 0 or len(missed) == 0:
        return torch.tensor(torch.nan)
    return detection_auroc(right, missed)


def _mean(
    name: str, title: str, better: str, meaning: str, column: str, high: float = float("inf")
) -> Summed:
    measure = Measure(name, title, "scores", better, meaning, 0.0, high)  # type: ignore[arg-type]
    return Summed(measure, partial(_share, column))


def _uncertainty(name: str, title: str, meaning: str, column: str) -> Summed:
    measure = Measure(name, title, "uncertainty", None, f"mean; {meaning}", 0.0)
    return Summed(measure, partial(_share, column))


def _share(column: str, sums: Totals) -> Tensor:
    return sums[column] / sums["cases"]


def _calibration(classes: int | None) -> list[Summed]:
    confidence = Measure(
        "mean_confidence",
        "Mean confidence",
        "calibration",
        None,
        "mean probability of the class that is predicted; meant to be the accuracy",
        0.0,
        1.0,
    )
    parts = [Summed(confidence, partial(_share, "confidence"))]
    binned: tuple[tuple[str, str, str, Callable[[ReliabilityCurve], Tensor]], ...] = (
        (
            "expected_calibration_error",
            "Expected calibration error",
            f"mean gap of confidence and accuracy over {BINS} bins (ECE); chance alone adds to it",
            ReliabilityCurve.expected_error,
        ),
        (
            "debiased_calibration_error",
            "Debiased calibration error",
            "the ECE without what chance alone adds",
            partial(ReliabilityCurve.debiased_error, norm="l1"),
        ),
        (
            "root_mean_square_calibration_error",
            "RMS calibration error",
            "root mean square gap over the bins",
            ReliabilityCurve.root_mean_square_error,
        ),
        (
            "maximum_calibration_error",
            "Maximum calibration error",
            "largest gap of a bin, however few cases it has",
            ReliabilityCurve.maximum_error,
        ),
    )
    for name, title, meaning, of in binned:
        measure = Measure(name, title, "calibration", "lower", meaning, 0.0, 1.0)
        parts.append(Summed(measure, partial(_of_bins, of)))
    measure = Measure(
        "smooth_calibration_error",
        "Smooth calibration error",
        "calibration",
        "lower",
        "without bins (Błasiok & Nakkiran 2023)",
        0.0,
        1.0,
    )
    parts.append(Summed(measure, _smooth))
    if classes is not None:
        measure = Measure(
            "classwise_calibration_error",
            "Classwise calibration error",
            "calibration",
            "lower",
            "mean over classes of the ECE of 'is it this class?'",
            0.0,
            1.0,
        )
        parts.append(Summed(measure, partial(_classwise, classes)))
    return parts


def _of_bins(of: Callable[[ReliabilityCurve], Tensor], sums: Totals) -> Tensor:
    return of(_curve(sums, "bin"))


def _curve(sums: Totals, name: str) -> ReliabilityCurve:
    return ReliabilityCurve(
        sums[f"{name}_count"], sums[f"{name}_confidence"], sums[f"{name}_correct"]
    )


def _smooth(sums: Totals) -> Tensor:
    return smooth.smoothed(sums["residuals"], sums["cases"])


def _classwise(classes: int, sums: Totals) -> Tensor:
    curve = _curve(sums, "classwise")
    count, confidence, correct = (
        part.unflatten(-1, (classes, BINS))
        for part in (curve.count, curve.confidence, curve.correct)
    )
    return ReliabilityCurve(count, confidence, correct).expected_error().mean(-1)


def _sets(level: float) -> list[Summed]:
    percent = f"{100 * level:g}%"
    covered = Measure(
        f"set_coverage_{100 * level:g}",
        f"Coverage of {percent} sets",
        "sets",
        "nominal",
        "share of conformal sets with the right class; more than asked for where the likeliest "
        "class alone is right more often",
        0.0,
        1.0,
        level,
    )
    size = Measure(
        f"set_size_{100 * level:g}",
        f"Size of {percent} sets",
        "sets",
        "lower",
        "mean number of classes in them",
        0.0,
    )
    return [
        Summed(covered, partial(_share, f"covered_{level}")),
        Summed(size, partial(_share, f"size_{level}")),
    ]
