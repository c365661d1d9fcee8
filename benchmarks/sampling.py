"""Balanced against iid sampling at equal numbers of samples, on trained nets.

Many seeds of each; the truth is a prediction with many more samples. The squared error of the
mean against it holds the truth's own error too, which is known and taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import mcdrop
from benchmarks import models
from benchmarks.models import Trained
from benchmarks.record import Record

COUNTS = (16, 64, 100, 256)
REFERENCE_SEED = 1_000_000


@dataclass(frozen=True, slots=True)
class Answers:
    """Mean and variance over the samples, float64; of many seeds `[seeds, ...]`, or of one."""

    mean: Tensor
    variance: Tensor


def measure(trained: Trained, seeds: int = 200, reference: int = 100_000) -> Record:
    """Both ways at each number of samples.

    Args:
        trained: a net and a small batch.
        seeds: predictions of each kind.
        reference: samples of the truth.
    """
    by_kind = {kind: models.montecarlo(trained, sampling=kind) for kind in ("iid", "balanced")}
    truth = answers(by_kind["iid"], trained.x, reference, range(REFERENCE_SEED, REFERENCE_SEED + 1))
    rows = []
    for count in COUNTS:
        iid, balanced = (answers(mc, trained.x, count, range(seeds)) for mc in by_kind.values())
        rows.append({"samples": count, **compare(iid, balanced, truth, count, reference)})
    return {
        "model": trained.name,
        "title": trained.title,
        "data": trained.source,
        "rows": len(trained.x),
        "seeds": seeds,
        "reference_samples": reference,
        "counts": rows,
    }


def answers(mc: mcdrop.MCDropout, x: Tensor, samples: int, seeds: Sequence[int]) -> Answers:
    """Predictions with each seed: `[seeds, B, ...]`."""
    means, variances = [], []
    for seed in seeds:
        prediction = mc.predict(x, samples=samples, seed=seed)
        regression = isinstance(prediction, mcdrop.RegressionPrediction)
        means.append(prediction.mean.double())
        variances.append((prediction.epistemic if regression else prediction.variance).double())
    return Answers(torch.stack(means), torch.stack(variances))


def compare(
    iid: Answers, balanced: Answers, truth: Answers, samples: int, reference: int
) -> Record:
    """How much better balanced is than iid, each figure with its standard error.

    Args:
        iid: of the seeds.
        balanced: of the seeds.
        truth: of one iid prediction with many more samples.
        samples: of each seed's prediction.
        reference: samples of the truth.

    Returns:
        `mean_gain`, squared error of the mean, iid over balanced: above 1, balanced is better;
        `variance_mse`, squared error of the variance, balanced over iid: below 1, balanced is
        better; `variance_bias`, of balanced, relative.
    """
    size = float(truth.variance.sum())
    own = size / reference
    means = [_squared(kind.mean, truth.mean) - own for kind in (iid, balanced)]
    variances = [_squared(kind.variance, truth.variance) for kind in (balanced, iid)]
    bias, spread = (kind.variance.flatten(1).sum(1) / size for kind in (balanced, iid))
    # of the mean over the seeds, and of the truth, whose samples are as those of iid
    errors = float(bias.var() / len(bias)), float(spread.var()) * samples / reference
    return {
        **_ratio("mean_gain", *means),
        **_ratio("variance_mse", *variances),
        "variance_bias": float(bias.mean()) - 1.0,
        "variance_bias_se": sum(errors) ** 0.5,
    }


def _squared(found: Tensor, truth: Tensor) -> Tensor:
    """Squared error over rows and outputs, of each seed."""
    return (found - truth).square().flatten(1).sum(1)


def _ratio(name: str, above: Tensor, below: Tensor) -> Record:
    """Ratio of two means over seeds, and its standard error to first order."""
    ratio = float(above.mean() / below.mean())
    parts = [float(side.var() / side.mean().square() / len(side)) for side in (above, below)]
    return {name: ratio, f"{name}_se": ratio * sum(parts) ** 0.5}
