"""Figures of whether confidences are shares of right answers, from what `ClassOutcomes` keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from mcdrop.evaluation.measures import Measure, OfSums, Promised, Summed, Totals
from mcdrop.metrics.functional import smooth
from mcdrop.metrics.functional.reliability import ReliabilityCurve

BINS = 15

# Each takes dozens of Fourier transforms, and a spread needs no more.
_SMOOTH_REPLICATES = 100


def calibration_measures() -> list[OfSums]:
    """Of the confidence in what is predicted."""
    gap = Measure(
        "confidence_gap",
        "Confidence less accuracy",
        "calibration",
        "nominal",
        "mean difference, case by case; above 0 it is too sure, below 0 not sure enough",
        -1.0,
        1.0,
        0.0,
    )
    confidence = Measure(
        "mean_confidence",
        "Mean confidence",
        "calibration",
        None,
        "mean probability of the class that is predicted; meant to be the accuracy",
        0.0,
        1.0,
    )
    parts: list[OfSums] = [
        Summed(confidence, lambda sums: sums["confidence"] / sums["cases"]),
        Promised(gap, "confidence", "correct", "doubt"),
    ]
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
    return parts


def classwise_measure(classes: int) -> Summed:
    """Mean over classes, from the sums of each."""
    measure = Measure(
        "classwise_calibration_error",
        "Classwise calibration error",
        "calibration",
        "lower",
        "mean over classes of the ECE of 'is it this class?'",
        0.0,
        1.0,
    )
    return Summed(measure, lambda sums: _errors(classes, sums).mean(-1))


def class_error(classes: int) -> Summed:
    """Of each class, from its sums."""
    measure = Measure("expected_calibration_error", "", "calibration", "lower", "", 0.0, 1.0)
    return Summed(measure, partial(_errors, classes))


def _of_bins(of: Callable[[ReliabilityCurve], Tensor], sums: Totals) -> Tensor:
    return of(_curve(sums, "bin"))


def _curve(sums: Totals, name: str) -> ReliabilityCurve:
    return ReliabilityCurve(
        sums[f"{name}_count"], sums[f"{name}_confidence"], sums[f"{name}_correct"]
    )


def _smooth(sums: Totals) -> Tensor:
    residuals, number = sums["residuals"], sums["cases"]
    if residuals.ndim > 1:  # replicates
        residuals, number = residuals[:_SMOOTH_REPLICATES], number[:_SMOOTH_REPLICATES]
    return smooth.smoothed(residuals, number)


def _errors(classes: int, sums: Totals) -> Tensor:
    curve = _curve(sums, "classwise")
    count, confidence, correct = (
        part.unflatten(-1, (classes, BINS))
        for part in (curve.count, curve.confidence, curve.correct)
    )
    return ReliabilityCurve(count, confidence, correct).expected_error()
