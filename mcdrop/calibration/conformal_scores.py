"""Scores of held-out cases, kept so that a conformal threshold can be had for any level."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mcdrop.arguments import inside
from mcdrop.errors import InputError

_KEPT = 2000


@dataclass(frozen=True, slots=True)
class ConformalScores:
    """The sorted scores of held-out cases, or 2000 of them where there are more.

    Of many scores the ranks that are kept are spread evenly, close together towards the largest; a
    threshold is then the next larger one that was kept, so that coverage errs on the large side, by
    less than 1/1000.

    Attributes:
        values: scores, rising; larger is stranger.
        ranks: of each among all, from 1.
        cases: how many there were.

    Example:
        >>> scores = ConformalScores.of(torch.arange(1.0, 10.0))
        >>> scores.threshold(0.8), scores.threshold(0.95)
        (8.0, inf)
    """

    values: tuple[float, ...]
    ranks: tuple[int, ...]
    cases: int

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.ranks))
        sorted_up = all(a <= b for a, b in pairwise(self.values))
        if not self.values or len(self.values) != len(self.ranks) or not (rising and sorted_up):
            raise InputError("conformal scores: expected rising values, each with its rank")
        if self.ranks[0] < 1 or self.ranks[-1] != self.cases:
            raise InputError(f"conformal scores: expected ranks from 1 to {self.cases}")
        if not all(map(math.isfinite, self.values)):
            raise InputError("conformal scores must be finite")

    @classmethod
    def of(cls, scores: Tensor) -> ConformalScores:
        """Sort and thin out the scores of held-out cases.

        Args:
            scores: any shape; larger is stranger.

        Raises:
            InputError: there is none, or one is not finite.
        """
        flat = scores.detach().double().flatten().sort().values
        if len(flat) == 0 or not bool(flat.isfinite().all()):
            raise InputError("expected finite scores of held-out cases, at least one")
        count = len(flat)
        if count <= _KEPT:
            ranks = list(range(1, count + 1))
        else:
            even = torch.linspace(1, count, _KEPT // 2, dtype=torch.float64)
            # the other half for levels above 0.9, where thresholds move fastest
            high = torch.linspace(0.9 * count, count, _KEPT - _KEPT // 2, dtype=torch.float64)
            ranks = torch.cat((even, high)).ceil().long().unique().tolist()
        places = torch.tensor(ranks, device=flat.device) - 1
        return cls(tuple(flat[places].tolist()), tuple(ranks), count)

    def threshold(self, level: float) -> float:
        """The score that a new case stays at or below with at least this probability.

        Args:
            level: strictly between 0 and 1.

        Returns:
            The ⌈(n + 1) level⌉-th smallest score or the next that was kept; infinity for too few.

        Raises:
            InputError: the level is not.
        """
        # a tiny bit less, so that (n + 1) level is not rounded up for its last digit
        rank = math.ceil((self.cases + 1) * inside(level) - 1e-9)
        place = bisect_left(self.ranks, rank)
        return self.values[place] if place < len(self.values) else math.inf
