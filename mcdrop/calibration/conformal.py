r"""Split conformal prediction: sets and intervals that hold the truth as often as was asked for.

Scores of held-out cases are sorted, and the one of rank :math:`\lceil (n+1)(1-\alpha) \rceil`
becomes the threshold: for exchangeable cases a new one lies at or below it with at least that
probability (Vovk et al. 2005; Angelopoulos & Bates 2021), whatever the model. With too few cases no
score suffices, and sets and intervals hold everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.functional.densities import alike, gaussians

SetScore = Literal["thr", "aps", "raps"]


def conformal_threshold(scores: Tensor, level: float) -> float:
    """The threshold of scores that a new case stays at or below with at least this probability.

    Args:
        scores: of held-out cases, `[N]`; larger is stranger.
        level: strictly between 0 and 1, such as 0.9.

    Returns:
        The ⌈(n + 1) level⌉-th smallest score; infinity where there are too few.

    Raises:
        InputError: there is no score, or one is NaN.

    Example:
        >>> conformal_threshold(torch.arange(1.0, 10.0), 0.8)
        8.0
        >>> conformal_threshold(torch.ones(3), 0.8)
        inf
    """
    flat = scores.detach().double().flatten()
    if len(flat) == 0 or bool(flat.isnan().any()):
        raise InputError("expected scores of held-out cases, none of them NaN")
    # a tiny bit less, so that (n + 1) level is not rounded up for its last digit
    rank = math.ceil((len(flat) + 1) * inside(level) - 1e-9)
    return math.inf if rank > len(flat) else float(flat.kthvalue(rank).values)


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """Sets of classes that hold the right one.

    - `"thr"`: classes that are probable enough, score 1 - p (Sadinle et al. 2019): the smallest
      sets on average;
    - `"aps"`: classes from the most probable on, until their sum suffices (Romano et al. 2020):
      hard cases are covered as well as easy ones;
    - `"raps"`: the same, where each class from a rank on adds a penalty (Angelopoulos et al. 2021).

    The most probable class is always in the set, as an empty one would tell nothing: a model that
    is right more often than was asked for is then covered as often as it is right. With
    `allow_empty` coverage is what was asked for, by sets without any class.

    Attributes:
        threshold: of the score; infinite for sets of all classes.
        level: share of cases that are to be covered.
        score: which one.
        penalty: of `"raps"`, for each class from `rank` on.
        rank: how many classes are free of it.
        allow_empty: whether a set may hold nothing.
        classes: how many there are; 0 for any number.

    Example:
        >>> probs = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
        >>> sets = ConformalSets(threshold=0.7, level=0.9, score="thr")
        >>> sets(probs).tolist()
        [[True, False, False], [True, True, False]]
    """

    threshold: float
    level: float
    score: SetScore = "thr"
    penalty: float = 0.0
    rank: int = 0
    allow_empty: bool = False
    classes: int = 0

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        inside(self.level)
        if self.score not in ("thr", "aps", "raps"):
            raise InputError(f"score must be 'thr', 'aps' or 'raps'; got {self.score!r}")
        if math.isnan(self.threshold):
            raise InputError("threshold must be a number; got NaN")
        if not 0.0 <= self.penalty < math.inf or self.rank < 0 or self.classes < 0:
            raise InputError(
                f"penalty, rank and classes are finite and at least 0; got {self.penalty}, "
                f"{self.rank} and {self.classes}"
            )

    @classmethod
    def fit(
        cls,
        *,
        probs: Tensor,
        labels: Tensor,
        level: float = 0.9,
        score: SetScore = "thr",
        penalty: float = 0.01,
        rank: int = 5,
        allow_empty: bool = False,
    ) -> ConformalSets:
        """Find the threshold on held-out cases.

        Args:
            probs: `[N, C]`.
            labels: integers, `[N]`.
            level: share of new cases whose set is to hold the right class.
            score: `"thr"`, `"aps"` or `"raps"`.
            penalty: of `"raps"`.
            rank: of `"raps"`.
            allow_empty: whether a set may hold nothing.

        Raises:
            InputError: an argument does not fit.
        """
        if probs.ndim != 2 or labels.ndim != 1:
            raise InputError(
                f"expected probabilities [N, C] and labels [N]; got {list(probs.shape)} and "
                f"{list(labels.shape)}"
            )
        found = cases(probs=probs, labels=labels)
        if score != "raps":
            penalty, rank = 0.0, 0
        made = cls(math.inf, level, score, penalty, rank, allow_empty, probs.shape[1])
        scores = set_scores(found.probs, score, penalty, rank)
        right = scores.gather(1, found.labels[:, None])[:, 0]
        return replace(made, threshold=conformal_threshold(right, level))

    def __call__(self, probs: Tensor) -> Tensor:
        """Which classes are in each set, bool `[N, C]`.

        Raises:
            InputError: the probabilities are not `[N, C]`, or of another number of classes.
        """
        if probs.ndim != 2:
            raise InputError(f"expected probabilities [N, C]; got {list(probs.shape)}")
        if self.classes not in (0, probs.shape[1]):
            raise InputError(f"fitted on {self.classes} classes; got {probs.shape[1]}")
        wide = probs.detach().double()
        held = set_scores(wide, self.score, self.penalty, self.rank) <= self.threshold
        if self.allow_empty:
            return held
        return held.scatter(1, wide.argmax(1, keepdim=True), value=True)


def set_scores(probs: Tensor, score: str, penalty: float, rank: int) -> Tensor:
    """How strange each class would be, `[N, C]`.

    For APS the probability of the class itself counts in whole: sets are a little larger than with
    the random part of the paper, and the same each time.
    """
    if score == "thr":
        return 1.0 - probs
    ordered, order = probs.sort(dim=1, descending=True, stable=True)
    places = torch.arange(1, probs.shape[1] + 1, dtype=probs.dtype, device=probs.device)
    sums = ordered.cumsum(1) + penalty * (places - rank).clamp_min(0.0)
    return torch.empty_like(sums).scatter_(1, order, sums)


@dataclass(frozen=True, slots=True)
class ConformalIntervals:
    """Intervals around a mean, as wide as held-out errors ask for.

    Attributes:
        threshold: half of the width, in units of the target, or in standard deviations.
        level: share of targets that are to be covered.
        scaled: whether it is in standard deviations (Papadopoulos et al. 2008; Lei et al. 2018).

    Example:
        >>> intervals = ConformalIntervals(threshold=2.0, level=0.9, scaled=True)
        >>> intervals(torch.zeros(2), torch.tensor([1.0, 3.0]))
        (tensor([-2., -6.]), tensor([2., 6.]))
    """

    threshold: float
    level: float
    scaled: bool = False

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        inside(self.level)
        if not self.threshold >= 0.0:
            raise InputError(f"threshold must be at least 0; got {self.threshold}")

    @classmethod
    def fit(
        cls, mean: Tensor, target: Tensor, *, std: Tensor | None = None, level: float = 0.9
    ) -> ConformalIntervals:
        """Find the half width on held-out cases.

        Args:
            mean: predictions, `[N, ...]`.
            target: of that shape.
            std: predicted standard deviations, for intervals in units of them.
            level: share of new targets that are to be covered.

        Raises:
            InputError: an argument does not fit.
        """
        if std is None:
            mean, target = alike(mean=mean, target=target)
            scores = (target - mean).abs()
        else:
            mean, std, target = gaussians(mean, std, target)
            scores = (target - mean).abs() / std
        return cls(conformal_threshold(scores, level), level, std is not None)

    def __call__(self, mean: Tensor, std: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds, of the shape of `mean`; NaN where a deviation is.

        Raises:
            InputError: standard deviations are missing, or below 0.
        """
        if (std is not None) != self.scaled:
            wanted = "needs std: it is in units of it" if self.scaled else "takes no std"
            raise InputError(f"this calibrator {wanted}; fit one that does otherwise")
        if std is not None and bool((std < 0).any()):
            raise InputError("standard deviations must be at least 0")
        if math.isinf(self.threshold):
            std = None  # infinity times 0 is no number
        half = self.threshold if std is None else self.threshold * std
        return mean - half, mean + half


@dataclass(frozen=True, slots=True)
class ConformalQuantiles:
    """Quantile intervals, moved out (or in) until they hold (CQR; Romano et al. 2019).

    Attributes:
        shift: how far, in units of the target; below 0 where the intervals were too wide.
        level: share of targets that are to be covered.
    """

    shift: float
    level: float

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        inside(self.level)
        if math.isnan(self.shift):
            raise InputError("shift must be a number; got NaN")

    @classmethod
    def fit(
        cls, lower: Tensor, upper: Tensor, target: Tensor, *, level: float = 0.9
    ) -> ConformalQuantiles:
        """Find the shift on held-out cases.

        Args:
            lower: predicted quantiles, `[N, ...]`.
            upper: of that shape.
            target: of that shape.
            level: share of new targets that are to be covered.

        Raises:
            InputError: an argument does not fit.
        """
        lower, upper, target = alike(lower=lower, upper=upper, target=target)
        scores = torch.maximum(lower - target, target - upper)
        return cls(conformal_threshold(scores, level), level)

    def __call__(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds that hold; where they would cross, both are the middle."""
        low, high = lower - self.shift, upper + self.shift
        middle = (lower + upper) / 2.0
        return torch.minimum(low, middle), torch.maximum(high, middle)
