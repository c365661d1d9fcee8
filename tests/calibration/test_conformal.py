"""Conformal sets and intervals: coverage over 200 resplits, and what they hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import mcdrop
from mcdrop import calibration as c

HELD, FRESH, SPLITS = 150, 400, 200


def _cases(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Probabilities that are too sure, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, 6, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return (3.0 * logits).softmax(1), labels


def _numbers(number: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, noise = torch.randn(2, number, generator=generator, dtype=torch.float64)
    std = 0.5 + torch.rand(number, generator=generator, dtype=torch.float64)
    return mean, 0.5 * std, mean + std * noise.sign() * noise.abs() ** 1.5


def _covered(way: Callable[[int], Tensor]) -> None:
    """Mean coverage over resplits within binomial bounds, at a false-alarm rate of 1e-6.

    For n held-out cases coverage is ⌈(n + 1) · 0.9⌉ / (n + 1) on average (no ties), and has the
    variance of a beta-binomial law over fresh cases.
    """
    a = math.ceil((HELD + 1) * 0.9)
    b = HELD + 1 - a
    mean = a / (a + b)
    spread = a * b * (a + b + FRESH) / ((a + b) ** 2 * (a + b + 1) * FRESH)
    found = torch.stack([way(split).double().mean() for split in range(SPLITS)])
    assert abs(found.mean().item() - mean) < 4.9 * math.sqrt(spread / SPLITS)


@pytest.mark.parametrize("score", ["thr", "aps", "raps"])
def test_sets_cover_what_was_asked_for(score: str) -> None:
    def way(split: int) -> Tensor:
        probs, labels = _cases(HELD + FRESH, split)
        sets = c.ConformalSets.fit(
            probs=probs[:HELD], labels=labels[:HELD], score=score, level=0.9, allow_empty=True
        )
        return sets(probs[HELD:]).gather(1, labels[HELD:, None])[:, 0]

    _covered(way)


@pytest.mark.parametrize("kind", ["absolute", "scaled", "quantiles"])
def test_intervals_cover_what_was_asked_for(kind: str) -> None:
    def way(split: int) -> Tensor:
        mean, std, target = _numbers(HELD + FRESH, split)
        early, late = slice(None, HELD), slice(HELD, None)
        if kind == "absolute":
            made = c.ConformalIntervals.fit(mean[early], target[early])
            lower, upper = made(mean[late])
        elif kind == "scaled":
            made = c.ConformalIntervals.fit(mean[early], target[early], std=std[early])
            lower, upper = made(mean[late], std[late])
        else:
            low, high = mean - std, mean + std
            fitted = c.ConformalQuantiles.fit(low[early], high[early], target[early])
            lower, upper = fitted(low[late], high[late])
        return (lower <= target[late]) & (target[late] <= upper)

    _covered(way)


def test_aps_adds_classes_from_the_most_probable_on() -> None:
    probs = torch.tensor([[0.5, 0.1, 0.4], [0.05, 0.9, 0.05]])
    sets = c.ConformalSets(threshold=0.91, level=0.9, score="aps")
    assert sets(probs).tolist() == [[True, False, True], [False, True, False]]
    penalised = c.ConformalSets(threshold=0.91, level=0.9, score="raps", penalty=0.1, rank=1)
    assert penalised(probs).tolist() == [[True, False, False], [False, True, False]]


def test_no_set_is_empty() -> None:
    probs = torch.full((2, 4), 0.25)
    for score in ("thr", "aps", "raps"):
        sets = c.ConformalSets(threshold=0.0, level=0.9, score=score)
        assert sets(probs).sum(1).tolist() == [1, 1]
        assert not dataclasses.replace(sets, allow_empty=True)(probs).any()


def test_too_few_cases_cover_everything() -> None:
    """Nine cases are too few for 95%: without the correction the largest score would be taken."""
    probs, labels = _cases(9, 0)
    sets = c.ConformalSets.fit(probs=probs, labels=labels, level=0.95)
    assert sets(probs).all()
    lower, upper = c.ConformalIntervals.fit(torch.zeros(9), torch.ones(9), level=0.95)(
        torch.zeros(1)
    )
    assert lower.item() == -math.inf
    assert upper.item() == math.inf
    assert math.isfinite(c.conformal_threshold(torch.rand(19), 0.95))


def test_intervals_that_are_too_wide_are_drawn_in_and_do_not_cross() -> None:
    lower, upper = torch.full((50,), -10.0), torch.full((50,), 10.0)
    target = torch.randn(50, generator=torch.Generator().manual_seed(0))
    fitted = c.ConformalQuantiles.fit(lower, upper, target)
    assert fitted.shift < -5
    low, high = fitted(torch.tensor([-1.0]), torch.tensor([1.0]))
    assert low.item() == high.item() == 0.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: c.conformal_threshold(torch.empty(0), 0.9), "held-out cases"),
        (lambda: c.conformal_threshold(torch.tensor([torch.nan]), 0.9), "NaN"),
        (lambda: c.conformal_threshold(torch.ones(3), 1.0), "strictly between"),
        (lambda: c.ConformalIntervals(1.0, 0.9)(torch.zeros(1), torch.ones(1)), "takes no std"),
        (lambda: c.ConformalIntervals(1.0, 0.9, scaled=True)(torch.zeros(1)), "needs std"),
        (
            lambda: c.ConformalIntervals(1.0, 0.9, scaled=True)(torch.zeros(1), -torch.ones(1)),
            "at least 0",
        ),
        (
            lambda: c.ConformalSets.fit(probs=torch.tensor([0.5]), labels=torch.tensor([0])),
            r"\[N, C\] and labels \[N\]",
        ),
        (lambda: c.ConformalSets(0.5, 0.9)(torch.zeros(3)), r"\[N, C\]; got \[3\]"),
        (
            lambda: c.ConformalSets.fit(
                probs=torch.full((4, 2), 0.5), labels=torch.tensor([0, 1, 0, 1])
            )(torch.full((1, 3), 1 / 3)),
            "fitted on 2 classes; got 3",
        ),
        (lambda: c.ConformalSets(math.nan, 0.9), "threshold must be a number"),
        (lambda: c.ConformalSets(0.5, 1.0), "strictly between"),
        (lambda: c.ConformalSets(0.5, 0.9, "lac"), "'thr', 'aps' or 'raps'; got 'lac'"),
        (lambda: c.ConformalSets(0.5, 0.9, "raps", penalty=-1.0), "at least 0; got -1.0, 0 and 0"),
        (lambda: c.ConformalSets(0.5, 0.9, "raps", penalty=math.inf), "finite and at least 0"),
        (lambda: c.ConformalSets(0.5, 0.9, "raps", rank=-1), "at least 0; got 0.0, -1 and 0"),
        (lambda: c.ConformalSets(0.5, 0.9, classes=-1), "at least 0; got 0.0, 0 and -1"),
        (lambda: c.ConformalIntervals(-0.1, 0.9), "threshold must be at least 0"),
        (lambda: c.ConformalIntervals(math.nan, 0.9), "threshold must be at least 0"),
        (lambda: c.ConformalIntervals(1.0, 0.0), "strictly between"),
        (lambda: c.ConformalQuantiles(math.nan, 0.9), "shift must be a number"),
        (lambda: c.ConformalQuantiles(1.0, -0.9), "strictly between"),
        (
            lambda: c.ConformalSets.fit(
                probs=torch.full((1, 2), 0.5), labels=torch.tensor([0]), score="lac"
            ),
            "'thr', 'aps' or 'raps'; got 'lac'",
        ),
    ],
)
def test_bad_arguments_are_told_apart(call: Callable[[], object], match: str) -> None:
    with pytest.raises(mcdrop.InputError, match=match):
        call()
