"""Conformal sets and intervals at any level, from the scores of held-out cases."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mcdrop.calibration.conformal import ConformalIntervals, ConformalSets, SetScore, set_scores
from mcdrop.calibration.conformal_scores import ConformalScores
from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.functional.densities import alike, gaussians


@dataclass(frozen=True, slots=True)
class SetRule:
    """Sets of classes; `at` gives those of a level, see `ConformalSets` for the other fields.

    Attributes:
        scores: of the right class of each held-out case.
        classes: how many there are.
    """

    scores: ConformalScores
    classes: int
    score: SetScore = "thr"
    penalty: float = 0.0
    rank: int = 0
    allow_empty: bool = False

    def __post_init__(self) -> None:
        self.at(0.5)  # which checks what the fields hold

    @classmethod
    def fit(
        cls,
        *,
        probs: Tensor,
        labels: Tensor,
        score: SetScore = "thr",
        penalty: float = 0.01,
        rank: int = 5,
        allow_empty: bool = False,
    ) -> SetRule:
        """Keep the scores of held-out cases; arguments as for `ConformalSets.fit`."""
        fitted = ConformalSets.fit(
            probs=probs,
            labels=labels,
            score=score,
            penalty=penalty,
            rank=rank,
            allow_empty=allow_empty,
        )
        found = cases(probs=probs, labels=labels)
        scores = set_scores(found.probs, fitted.score, fitted.penalty, fitted.rank)
        return cls(
            ConformalScores.of(scores.gather(1, found.labels[:, None])),
            probs.shape[1],
            fitted.score,
            fitted.penalty,
            fitted.rank,
            allow_empty,
        )

    def at(self, level: float) -> ConformalSets:
        """The sets that hold the right class with this probability.

        Raises:
            InputError: the level is not strictly between 0 and 1.
        """
        return ConformalSets(
            threshold=self.scores.threshold(level),
            level=level,
            score=self.score,
            penalty=self.penalty,
            rank=self.rank,
            allow_empty=self.allow_empty,
            classes=self.classes,
        )


@dataclass(frozen=True, slots=True)
class IntervalRule:
    """Intervals around a mean; `at` gives those of a level.

    Attributes:
        scores: held-out errors, absolute or in predicted standard deviations.
        scaled: which of the two.
    """

    scores: ConformalScores
    scaled: bool = True

    @classmethod
    def fit(cls, mean: Tensor, target: Tensor, *, std: Tensor | None = None) -> IntervalRule:
        """Keep the errors of held-out cases; arguments as for `ConformalIntervals.fit`."""
        if std is None:
            mean, target = alike(mean=mean, target=target)
            return cls(ConformalScores.of((target - mean).abs()), scaled=False)
        mean, std, target = gaussians(mean, std, target)
        return cls(ConformalScores.of((target - mean).abs() / std), scaled=True)

    def at(self, level: float) -> ConformalIntervals:
        """The intervals that hold the target with this probability.

        Raises:
            InputError: the level is not strictly between 0 and 1.
        """
        return ConformalIntervals(self.scores.threshold(level), level, self.scaled)
