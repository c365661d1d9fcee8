"""The figures of an evaluation of probabilities, from what `ClassOutcomes` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mcdrop.evaluation import weighted
from mcdrop.evaluation.class_calibration import BINS, calibration_measures
from mcdrop.evaluation.measures import Measure, OfSums, Ranked, Share, Summed, Totals
from mcdrop.metrics.functional import selective
from mcdrop.metrics.functional.detection import detection_auroc
from mcdrop.metrics.functional.reliability import adaptive_error
from mcdrop.tasks import AnyTask, Classification

LEVELS = (0.8, 0.9, 0.95)
WORDS = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "variation_ratio": "variation ratio",
}


def summed_measures(task: AnyTask, *, sets: bool) -> list[OfSums]:
    """What comes from sums.

    Args:
        task: whose Brier score is of classes, or half of that.
        sets: whether conformal sets were measured.
    """
    whole = isinstance(task, Classification)
    right = "share of cases that are right"
    found: list[OfSums] = [
        Share(Measure("accuracy", "Accuracy", "scores", "higher", right, 0.0, 1.0), "correct"),
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
        *calibration_measures(),
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
            partial(weighted.adaptive_error, bins=BINS),
            ("confidence", "correct"),
            "wrong",
        )
    ]
    areas = (
        (
            "area_under_risk_coverage",
            "AURC",
            "mean share of errors over all coverages",
            weighted.risk_area,
        ),
        (
            "excess_area_under_risk_coverage",
            "Excess AURC",
            "AURC beyond the best possible order's",
            weighted.excess_risk_area,
        ),
        (
            "area_under_generalized_risk_coverage",
            "AUGRC",
            "mean share of all cases that are errors and are kept",
            weighted.generalized_risk_area,
        ),
    )
    for name, title, meaning, again in areas:
        measure = Measure(name, title, "selective", "lower", f"by entropy: {meaning}", 0.0, 1.0)
        of = getattr(selective, name)
        measures.append(Ranked(measure, of, again, ("entropy", "wrong"), "wrong"))
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
        columns = (name, "wrong")
        measures.append(Ranked(measure, _error_auroc, weighted.auroc, columns, "wrong", both=True))
    return measures


def class_measures() -> list[OfSums]:
    """Of each class, from its sums."""
    nll = Measure("negative_log_likelihood", "", "scores", "lower", "", 0.0)
    return [
        Share(Measure("recall", "", "scores", "higher", ""), "right"),
        Share(Measure("precision", "", "scores", "higher", ""), "right", "answers"),
        Summed(nll, partial(_share, "nll")),
    ]


def class_iou() -> Summed:
    """Of each class, from its sums."""
    return Summed(Measure("iou", "", "scores", "higher", "", 0.0, 1.0), _iou)


def mean_iou() -> Summed:
    """Over classes, from the sums of each: a confusion matrix's diagonal, and its margins."""
    measure = Measure(
        "mean_iou",
        "Mean IoU",
        "scores",
        "higher",
        "intersection over union of the cases of a class and those predicted as it; mean over "
        "classes that there are",
        0.0,
        1.0,
    )
    return Summed(measure, lambda sums: _iou(sums).nanmean(-1))


def _iou(sums: Totals) -> Tensor:
    """NaN for a class that neither is there nor was predicted."""
    return sums["right"] / (sums["cases"] + sums["answers"] - sums["right"])


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


def _sets(level: float) -> list[OfSums]:
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
        Share(covered, f"covered_{level}"),
        Summed(size, partial(_share, f"size_{level}")),
    ]
