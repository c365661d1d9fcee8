"""The figures of an evaluation of numbers, from what `NumberOutcomes` keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mcdrop.calibration.record import Calibration
from mcdrop.evaluation import weighted
from mcdrop.evaluation.document import Better, Topic
from mcdrop.evaluation.measures import Measure, OfSums, Ranked, Share, Summed, Totals
from mcdrop.metrics.functional import selective, spread

LEVELS = (0.5, 0.8, 0.9, 0.95)
QUANTILES = tuple(place / 100 for place in range(1, 100))


def measured_levels(calibration: Calibration) -> tuple[float, ...]:
    """Levels of the intervals that are measured: of conformal quantiles the fitted one."""
    only = calibration.fitted_level
    return LEVELS if only is None else (only,)


def main_level(calibration: Calibration) -> float:
    """Level of the intervals that groups and outputs are told by."""
    return calibration.fitted_level or 0.9


def summed_measures(calibration: Calibration) -> list[OfSums]:
    """What comes from sums.

    Args:
        calibration: says what intervals there are, and whether the normal distribution with the
            predicted variance is what is predicted.
    """
    found: list[OfSums] = [
        _measure(
            "root_mean_squared_error",
            "Root mean squared error",
            "scores",
            "lower",
            "in units of the target",
            lambda sums: _mean(sums, "squared").sqrt(),
        ),
        _measure(
            "mean_absolute_error",
            "Mean absolute error",
            "scores",
            "lower",
            "in units of the target",
            lambda sums: _mean(sums, "absolute"),
        ),
        _measure(
            "quantile_calibration_error",
            "Quantile calibration error",
            "calibration",
            "lower",
            "root mean square gap of the share of targets below quantiles (Kuleshov et al. 2018)",
            lambda sums: _gaps(sums).square().mean(-1).sqrt(),
            high=1.0,
        ),
        _measure(
            "miscalibration_area",
            "Mean absolute calibration error",
            "calibration",
            "lower",
            "mean absolute gap of the same",
            lambda sums: _gaps(sums).abs().mean(-1),
            high=1.0,
        ),
        _measure(
            "epistemic_share",
            "Epistemic share",
            "uncertainty",
            None,
            "share of the predicted variance that samples disagree about; the rest is noise",
            lambda sums: sums["epistemic"] / sums["variance"],
            high=1.0,
        ),
    ]
    if not calibration.moves_quantiles:
        found += _of_normal()
    kind = "central" if calibration.intervals is None else "conformal"
    levels = measured_levels(calibration)
    return found + [each for level in levels for each in _intervals(level, kind)]


def output_measures(calibration: Calibration) -> list[OfSums]:
    """Of each number that is predicted, from its sums."""
    level = main_level(calibration)
    names = {"root_mean_squared_error", "mean_absolute_error", *interval_names(level)}
    some = [each for each in summed_measures(calibration) if each.measure.name in names]
    return [*some[:2], r2_score(each=True), *some[2:]]


def r2_score(*, each: bool = False) -> Summed:
    """From the sums of each output: of each, or their mean."""

    def of(sums: Totals) -> Tensor:
        found = 1.0 - _mean(sums, "squared") / _variance(sums)
        return found if each else found.mean(-1)

    meaning = "share of the targets' variance that is explained; of several outputs the mean"
    return _measure("r2_score", "R²", "scores", "higher", meaning, of, low=-math.inf, high=1.0)


def interval_names(level: float) -> tuple[str, str]:
    """Names of the coverage and the width of intervals."""
    return f"coverage_{100 * level:g}", f"interval_width_{100 * level:g}"


def _of_normal() -> list[OfSums]:
    """Of the normal distribution with the predicted mean and variance."""
    return [
        _measure(
            "gaussian_negative_log_likelihood",
            "Negative log-likelihood",
            "scores",
            "lower",
            "of the normal distribution with the predicted mean and variance, in nats",
            lambda sums: _mean(sums, "nll"),
            low=-math.inf,
        ),
        _measure(
            "crps_gaussian",
            "CRPS",
            "scores",
            "lower",
            "continuous ranked probability score of that distribution, in units of the target",
            lambda sums: _mean(sums, "crps"),
        ),
        _measure(
            "sharpness",
            "Sharpness",
            "uncertainty",
            None,
            "root mean predicted variance, in units of the target; meant to be the RMSE",
            lambda sums: _mean(sums, "variance").sqrt(),
        ),
    ]


def ranked_measures(calibration: Calibration) -> list[Ranked]:
    """What needs the cases in order."""
    measure = Measure(
        "area_under_sparsification_error",
        "AUSE",
        "selective",
        "lower",
        "how far sorting by predicted deviation falls behind sorting by error; 0 is best",
        0.0,
    )
    columns = ("std", "error")
    order = Ranked(measure, _sparsification, weighted.sparsification_error, columns)
    return [order] if calibration.moves_quantiles else [*_deviations(), order]


def _deviations() -> list[Ranked]:
    """Of the predicted deviations."""
    columns = ("mean", "std", "target")
    return [
        Ranked(
            Measure(
                "expected_normalized_calibration_error",
                "ENCE",
                "calibration",
                "lower",
                "mean relative gap of predicted deviation and error, in ten parts by deviation",
                0.0,
            ),
            spread.expected_normalized_calibration_error,
            weighted.normalized_error,
            columns,
        ),
        Ranked(
            Measure(
                "uncertainty_calibration_error",
                "UCE",
                "calibration",
                "lower",
                "mean gap of predicted variance and squared error, in squared units of the target",
                0.0,
            ),
            spread.uncertainty_calibration_error,
            weighted.uncertainty_error,
            columns,
        ),
    ]


def _sparsification(std: Tensor, error: Tensor) -> Tensor:
    if not bool((error > 0).any()):
        return torch.tensor(torch.nan)
    return selective.area_under_sparsification_error(std, error)


def _measure(
    name: str,
    title: str,
    topic: Topic,
    better: Better | None,
    meaning: str,
    of: Callable[[Totals], Tensor],
    *,
    low: float = 0.0,
    high: float = math.inf,
) -> Summed:
    return Summed(Measure(name, title, topic, better, meaning, low, high), of)


def _mean(sums: Totals, name: str) -> Tensor:
    return sums[name] / sums["cases"]


def _variance(sums: Totals) -> Tensor:
    return _mean(sums, "target_squared") - _mean(sums, "target").square()


def _gaps(sums: Totals) -> Tensor:
    share = sums["below"] / sums["cases"][..., None]
    return share - torch.tensor(QUANTILES, dtype=share.dtype, device=share.device)


def _intervals(level: float, kind: str) -> list[OfSums]:
    percent = f"{100 * level:g}"
    names = interval_names(level)
    covered = Measure(
        names[0],
        f"Coverage of {percent}% intervals",
        "sets",
        "nominal",
        f"share of targets within their {kind} intervals",
        0.0,
        1.0,
        level,
    )
    width = Measure(
        names[1],
        f"Width of {percent}% intervals",
        "sets",
        "lower",
        "mean, in units of the target; none where they are infinite",
        0.0,
    )
    return [
        Share(covered, f"covered_{level}"),
        Summed(width, partial(_mean, name=f"width_{level}"), fixed=True),
    ]
