"""Calibration, selective prediction and scores in plain NumPy loops, by their definitions."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

Array = np.ndarray


def bins(confidence: Array, number: int) -> list[Array]:
    """Indices of the cases of each bin, closed on the right; 0 belongs to the first."""
    edges = [b / number for b in range(number + 1)]
    return [
        np.array(
            [i for i, c in enumerate(confidence) if low < c <= high or (c == 0 and low == 0)], int
        )
        for low, high in pairwise(edges)
    ]


def gaps(confidence: Array, correct: Array, number: int) -> list[tuple[float, float, float]]:
    """Share, accuracy and confidence of each bin that is not empty."""
    return [
        (len(b) / len(confidence), correct[b].mean(), confidence[b].mean())
        for b in bins(confidence, number)
        if len(b)
    ]


def ece(confidence: Array, correct: Array, number: int) -> float:
    return sum(w * abs(a - c) for w, a, c in gaps(confidence, correct, number))


def mce(confidence: Array, correct: Array, number: int) -> float:
    return max(abs(a - c) for _, a, c in gaps(confidence, correct, number))


def rmsce(confidence: Array, correct: Array, number: int) -> float:
    return math.sqrt(sum(w * (a - c) ** 2 for w, a, c in gaps(confidence, correct, number)))


def adaptive(confidence: Array, correct: Array, number: int) -> float:
    order = np.argsort(confidence, kind="stable")
    cases = len(order)
    total = 0.0
    for b in range(number):
        part = [order[i] for i in range(cases) if i * number // cases == b]
        if part:
            total += len(part) / cases * abs(correct[part].mean() - confidence[part].mean())
    return total


def classwise(probs: Array, labels: Array, number: int) -> float:
    return float(
        np.mean([ece(probs[:, c], (labels == c) * 1.0, number) for c in range(probs.shape[1])])
    )


def debiased_square(confidence: Array, correct: Array, number: int) -> float:
    """Kumar, Liang & Ma (2019), the square, before the root."""
    total = 0.0
    for b in bins(confidence, number):
        if len(b) > 1:
            a, c = correct[b].mean(), confidence[b].mean()
            total += len(b) / len(confidence) * ((a - c) ** 2 - a * (1 - a) / (len(b) - 1))
    return total


def mmce(confidence: Array, correct: Array, width: float) -> float:
    r = correct - confidence
    kernel = np.exp(-np.abs(confidence[:, None] - confidence[None]) / width)
    return math.sqrt(max(0.0, r @ kernel @ r)) / len(r)


def smooth(confidence: Array, correct: Array, bandwidth: float, points: int = 20_001) -> float:
    """Smooth ECE at one bandwidth: reflected kernels, the integral by trapezoids."""
    t = np.linspace(0.0, 1.0, points)
    density = np.zeros(points)
    for f, y in zip(confidence, correct, strict=True):
        for image in range(-4, 5):
            for centre in (f + 2 * image, -f + 2 * image):
                density += (y - f) * np.exp(-0.5 * ((t - centre) / bandwidth) ** 2)
    density /= bandwidth * math.sqrt(2 * math.pi) * len(confidence)
    return float(np.trapezoid(np.abs(density), t))


def crps_ensemble(samples: Array, target: Array, fair: bool) -> float:
    number = len(samples)
    pairs = np.abs(samples[:, None] - samples[None]).sum((0, 1))
    pairs = pairs / (number * (number - 1 if fair else number))
    return float((np.abs(samples - target).mean(0) - 0.5 * pairs).mean())


def risks(uncertainty: Array, loss: Array, orders: int, seed: int = 0) -> Array:
    """Risk at each coverage, averaged over random orders of what is equally uncertain."""
    generator, found = np.random.default_rng(seed), np.zeros(len(loss))
    for _ in range(orders):
        order = np.lexsort((generator.random(len(loss)), uncertainty))
        found += np.cumsum(loss[order]) / np.arange(1, len(loss) + 1)
    return found / orders


def ence(std: Array, error: Array, number: int) -> float:
    order = np.argsort(std, kind="stable")
    total = 0.0
    for part in np.array_split(order, number):
        rmv, rmse = np.sqrt((std[part] ** 2).mean()), np.sqrt((error[part] ** 2).mean())
        total += abs(rmv - rmse) / rmv
    return total / number
