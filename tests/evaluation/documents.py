"""Documents of made-up evaluations, with numbers as they could be."""

from __future__ import annotations

import math
from typing import Any

from mcdrop.evaluation.document import (
    Bin,
    Convergence,
    Data,
    Detection,
    Estimate,
    Evaluation,
    Figure,
    Histogram,
    Line,
    Model,
    Run,
    Slice,
)

RUN = Run(
    samples=64,
    seed=7,
    seconds=83.214,
    mcdrop="0.1.0",
    torch="2.13.0",
    created="2026-11-24T05:39:17+00:00",
    replicates=400,
    ranked_replicates=100,
    ranked_rows=20_000,
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def figure(
    name: str,
    title: str,
    topic: str,
    better: str | None,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    nominal: float | None = None,
    meaning: str = "",
) -> Figure:
    return Figure(
        name=name,
        title=title,
        topic=topic,
        better=better,
        value=value,
        low=low,
        high=high,
        nominal=nominal,
        meaning=meaning,
    )


def estimate(value: float | None, half: float, high: float = math.inf) -> Estimate:
    if value is None:
        return Estimate(value=None)
    return Estimate(value=value, low=value - half, high=min(high, value + half))


def class_figures() -> tuple[Figure, ...]:
    lower, higher = "lower", "higher"
    rows: list[tuple[Any, ...]] = [
        ("accuracy", "Accuracy", "scores", higher, 0.95123, 0.93987, 0.96241, None,
         "share of cases that are right"),
        ("negative_log_likelihood", "Negative log-likelihood", "scores", lower,
         0.1871342, 0.1633, 0.2109, None,
         "mean of -log p(label), in nats; none where a label was given probability 0"),
        ("brier_score", "Brier score", "scores", lower, 0.07713, 0.0692, 0.0851, None,
         "mean squared error of the probabilities, summed over classes: 0 to 2"),
        ("mean_confidence", "Mean confidence", "calibration", None, 0.97409, 0.97102, 0.97699, None,
         "mean probability of the class that is predicted; meant to be the accuracy"),
        ("confidence_gap", "Confidence less accuracy", "calibration", "nominal",
         0.02286, 0.0124, 0.0333, 0.0,
         "mean difference, case by case; above 0 it is too sure, below 0 not sure enough"),
        ("expected_calibration_error", "Expected calibration error", "calibration", lower,
         0.02391, 0.0161, 0.0318, None,
         "mean gap of confidence and accuracy over 15 bins (ECE); chance alone adds to it"),
        ("debiased_calibration_error", "Debiased calibration error", "calibration", lower,
         0.02187, 0.0138, 0.0299, None, "the ECE without what chance alone adds"),
        ("maximum_calibration_error", "Maximum calibration error", "calibration", lower,
         0.41, None, None, None, "largest gap of a bin, however few cases it has"),
        ("predictive_entropy", "Entropy", "uncertainty", None, 0.0913, 0.0849, 0.0978, None,
         "mean; total uncertainty, in nats"),
        ("mutual_information", "Mutual information", "uncertainty", None,
         3.127e-05, 2.9e-05, 3.4e-05, None,
         "mean; epistemic uncertainty: what samples disagree about, in nats"),
        ("area_under_risk_coverage", "AURC", "selective", lower, 0.00712, 0.0049, 0.0093, None,
         "by entropy: mean share of errors over all coverages"),
        ("error_auroc_entropy", "AUROC of errors, entropy", "selective", higher,
         0.9271, 0.9062, 0.948, None,
         "chance that a wrong answer is more uncertain than a right one; 0.5 tells nothing"),
        ("set_coverage_90", "Coverage of 90% sets", "sets", "nominal", 0.9107, 0.8972, 0.9242, 0.9,
         "share of conformal sets with the right class"),
        ("set_size_90", "Size of 90% sets", "sets", lower, 0.942, 0.931, 0.953, None,
         "mean number of classes in them"),
    ]  # fmt: skip
    return tuple(figure(*row) for row in rows)


def bins() -> tuple[Bin, ...]:
    found = []
    for place in range(15):
        low, high = place / 15, (place + 1) / 15
        count = 0 if place < 3 else round(4 * math.exp(0.45 * (place - 3))) + (place == 14) * 500
        confidence = (low + high) / 2 if place < 14 else 0.991
        accuracy = max(confidence - 0.13 * math.sin(math.pi * confidence) ** 0.7 - 0.004, 0.0)
        half = 1.0 / math.sqrt(count + 4) if count else 0.0
        found.append(
            Bin(
                low=low,
                high=high,
                count=count,
                confidence=confidence if count else None,
                accuracy=accuracy if count else None,
                accuracy_low=max(accuracy - half, 0.0) if count else None,
                accuracy_high=min(accuracy + half, 1.0) if count else None,
            )
        )
    return tuple(found)


def risk_lines() -> tuple[Line, ...]:
    coverage = tuple(place / 200 for place in range(1, 201))
    names = {"entropy": 5.0, "mutual_information": 4.0, "variation_ratio": 3.2}
    return tuple(
        Line(name=name, x=coverage, y=tuple(0.0488 * x**power for x in coverage))
        for name, power in names.items()
    )


def spread(peak: float, parts: int, sharp: float) -> tuple[float, ...]:
    weights = [math.exp(-sharp * abs(place / parts - peak)) for place in range(parts)]
    return tuple(weight / sum(weights) for weight in weights)


def convergence() -> Convergence:
    samples = (16, 32, 64, 128, 256)
    return Convergence(
        rows=256,
        samples=samples,
        standard_error=tuple(0.11 / math.sqrt(count) for count in samples),
        score=tuple(0.186 + 0.21 / count for count in samples),
    )


def class_slices(names: tuple[str, ...] = DIGITS) -> tuple[Slice, ...]:
    return tuple(
        Slice(
            name=name,
            cases=140 + (37 * place) % 23,
            figures={
                "recall": estimate(0.91 + (0.013 * place) % 0.09, 0.03, 1.0),
                "precision": estimate(0.9 + (0.017 * place) % 0.1, 0.03, 1.0),
                "negative_log_likelihood": estimate(0.11 + (0.031 * place) % 0.2, 0.05),
                "expected_calibration_error": estimate(
                    None if place == 3 else 0.0071 * (1 + place % 4), 0.002
                ),
            },
        )
        for place, name in enumerate(names)
    )


def detection() -> Detection:
    edges = tuple(2.3 * place / 30 for place in range(31))
    return Detection(
        source="letters.npz",
        rows=800,
        figures=(
            figure("detection_auroc_entropy", "AUROC, entropy", "detection", "higher",
                   0.9334, 0.9211, 0.9457, None,
                   "chance that a row of the other data is more uncertain; 0.5 tells nothing"),
            figure("false_positive_rate_entropy", "FPR at 95% TPR, entropy", "detection", "lower",
                   0.312, 0.281, 0.343, None,
                   "share of our rows that is flagged where 95% of the other ones are"),
        ),
        uncertainty=Histogram(
            edges=edges,
            shares={"this data": spread(0.0, 30, 9.0), "other data": spread(0.55, 30, 4.0)},
            counts={"this data": 1493, "other data": 800},
        ),
    )  # fmt: skip


def classes(**changes: Any) -> Evaluation:
    """A classifier that is too sure."""
    found = {
        "model": Model(name="digits", version=3, task="classification", classes=DIGITS,
                       calibration="temperature 1.31; conformal sets (APS)"),
        "data": Data(source="holdout.npz", rows=1493, cases=1493, bad_rows=7, bad=(
            "line 12: the label 'x' is not a class", "line 371: pixel 4 is not a number")),
        "run": RUN,
        "figures": class_figures(),
        "reliability": bins(),
        "risk_coverage": risk_lines(),
        "uncertainty": Histogram(
            edges=tuple(2.302585 * place / 30 for place in range(31)),
            shares={"right": spread(0.0, 30, 14.0), "wrong": spread(0.36, 30, 5.0)},
            counts={"right": 1420, "wrong": 73},
        ),
        "error": Line(name="entropy", x=tuple(0.0011 * 2.1**n for n in range(10)),
                      y=(0.0, 0.0, 0.0, 0.0, 0.0067, 0.0067, 0.0201, 0.034, 0.121, 0.302)),
        "convergence": convergence(),
        "classes": class_slices(),
        "groups": tuple(
            Slice(name=name, cases=cases, figures={
                  "accuracy": estimate(accuracy, 0.015), "mean_confidence": estimate(sure, 0.005),
                  "negative_log_likelihood": estimate(nll, 0.03),
                  "predictive_entropy": estimate(entropy, 0.006)})
            for name, cases, accuracy, sure, nll, entropy in (
                ("north", 702, 0.961, 0.978, 0.151, 0.081), ("south", 791, 0.942, 0.97, 0.219, 0.1),
            )
        ),
        "detection": detection(),
    }  # fmt: skip
    return Evaluation(**(found | changes))


def number_figures() -> tuple[Figure, ...]:
    rows: list[tuple[Any, ...]] = [
        ("root_mean_squared_error", "Root mean squared error", "scores", "lower",
         2.9036, 2.5571, 3.2501, None, "in units of the target"),
        ("mean_absolute_error", "Mean absolute error", "scores", "lower", 2.0127, 1.85, 2.18, None,
         "in units of the target"),
        ("r2_score", "R²", "scores", "higher", 0.8931, 0.861, 0.925, None,
         "share of the targets' variance that is explained"),
        ("gaussian_negative_log_likelihood", "Negative log-likelihood", "scores", "lower",
         2.4019, 2.3105, 2.4933, None,
         "of the normal distribution with the predicted mean and variance, in nats"),
        ("crps_gaussian", "CRPS", "scores", "lower", 1.4713, 1.35, 1.59, None,
         "continuous ranked probability score of that distribution, in units of the target"),
        ("quantile_calibration_error", "Quantile calibration error", "calibration", "lower",
         0.0318, 0.0142, 0.0494, None,
         "root mean square gap of the share of targets below quantiles (Kuleshov et al. 2018)"),
        ("expected_normalized_calibration_error", "ENCE", "calibration", "lower",
         0.1271, 0.0712, 0.183, None,
         "mean relative gap of predicted deviation and error, in ten parts by deviation"),
        ("sharpness", "Sharpness", "uncertainty", None, 2.711, 2.63, 2.79, None,
         "root mean predicted variance, in units of the target; meant to be the RMSE"),
        ("epistemic_share", "Epistemic share", "uncertainty", None, 0.2714, 0.261, 0.282, None,
         "share of the predicted variance that samples disagree about; the rest is noise"),
        ("coverage_50", "Coverage of 50% intervals", "sets", "nominal", 0.5612, 0.5189, 0.6035, 0.5,
         "share of targets within their central intervals"),
        ("interval_width_50", "Width of 50% intervals", "sets", "lower", 3.517, 3.4, 3.63, None,
         "mean, in units of the target; none where they are infinite"),
        ("coverage_90", "Coverage of 90% intervals", "sets", "nominal", 0.8913, 0.8641, 0.9185, 0.9,
         "share of targets within their central intervals"),
        ("interval_width_90", "Width of 90% intervals", "sets", "lower", 8.577, 8.3, 8.85, None,
         "mean, in units of the target; none where they are infinite"),
    ]  # fmt: skip
    return tuple(figure(*row) for row in rows)


def numbers(**changes: Any) -> Evaluation:
    """A regression whose intervals are about right."""
    levels = tuple(place / 20 for place in range(1, 20))
    share = (0.083, 0.091, 0.102, 0.117, 0.114, 0.119, 0.108, 0.094, 0.087, 0.085)
    coverage = tuple(place / 200 for place in range(1, 201))
    found = {
        "model": Model(name="housing", version=1, task="gaussian"),
        "data": Data(source="boston.csv", rows=506, cases=506),
        "run": RUN,
        "figures": number_figures(),
        "risk_coverage": (
            Line(name="std", x=coverage, y=tuple(1.31 + 1.5936 * x**1.7 for x in coverage)),
        ),
        "error": Line(name="std", x=(1.21, 1.5, 1.71, 1.9, 2.1, 2.33, 2.62, 3.0, 3.61, 5.2),
                      y=(1.32, 1.41, 1.83, 1.77, 2.31, 2.29, 2.95, 3.3, 3.5, 5.9)),
        "pit": Histogram(edges=tuple(place / 10 for place in range(11)),
                         shares={"targets": share}, counts={"targets": 506}),
        "coverage": (
            Line(name="predicted distribution", x=levels,
                 y=tuple(x + 0.06 * math.sin(math.pi * x) for x in levels)),
            Line(name="conformal intervals", x=levels,
                 y=tuple(x - 0.015 * math.sin(5 * x) for x in levels)),
        ),
        "convergence": convergence(),
    }  # fmt: skip
    return Evaluation(**(found | changes))
