"""Uncertainty scores from all samples at once, in float64 NumPy. Imports nothing of ours."""

from __future__ import annotations

import numpy as np


def entropy(p: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, -p * np.log(p), 0.0)
    return terms.sum(axis)


def classification(probs: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of `[S, B, C]` probabilities."""
    probs = probs.astype(np.float64)
    samples, _, classes = probs.shape
    mean = probs.mean(0)
    total, expected = entropy(mean, -1), entropy(probs, -1).mean(0)
    votes = np.stack([(probs.argmax(-1) == c).sum(0) for c in range(classes)], -1)
    variance = probs.var(0, ddof=1)
    return {
        "mean": mean,
        "variance": variance,
        "standard_error": np.sqrt(variance / samples),
        "entropy": total,
        "expected_entropy": expected,
        "mutual_information": total - expected,
        "variation_ratio": 1 - votes.max(-1) / samples,
    }


def blocks(values: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Variance and standard error of the mean of `[S, ...]` values drawn in blocks, in two passes.

    Squared deviations of block sums, by what they are expected to be for independent samples.
    """
    values = values.astype(np.float64)
    samples = len(values)
    mean = values.mean(0)
    parts = [values[start : start + size] for start in range(0, samples, size)]
    squares = sum((part.sum(0) - len(part) * mean) ** 2 for part in parts)
    error = squares / (samples**2 - sum(len(part) ** 2 for part in parts))
    return {
        "variance": (values**2).mean(0) - mean**2 + error,
        "standard_error": np.sqrt(error),
    }
