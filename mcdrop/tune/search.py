"""Rate search: which rates to drop score best on held-out rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from mcdrop.arguments import integer, number, one_of
from mcdrop.errors import InputError
from mcdrop.tune.history import Entry, History

Score = Callable[[dict[str, float]], float]
Method = Literal["bayesian", "grid"]
_LEVELS = 5  # of a grid, for each rate, by default
_WARM = 5  # trials that a history is asked for, at most
_MOST_SEED = 2**32 - 1  # Optuna's
_STARTUP = 6  # trials before the model of the scores is believed


@dataclass(frozen=True, slots=True)
class RateTrial:
    """Rates that were tried, and their score; less is better, NaN where it failed."""

    rates: Mapping[str, float]
    score: float


@dataclass(frozen=True, slots=True)
class RateSearch:
    """What a search found.

    Attributes:
        best: the trial with the least score.
        trials: all of them, in order.
    """

    best: RateTrial
    trials: tuple[RateTrial, ...]

    def trials_to(self, score: float) -> int | None:
        """How many trials it took to reach a score; `None` if it was not reached."""
        for place, trial in enumerate(self.trials, 1):
            if trial.score <= score:
                return place
        return None


def search_rates(
    score: Score,
    ranges: Mapping[str, tuple[float, float]],
    *,
    trials: int = 25,
    method: Method = "bayesian",
    levels: int = _LEVELS,
    history: History | None = None,
    data: str = "",
    features: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RateSearch:
    """Search for the rates with the least score.

    The Bayesian search is Optuna's tree-structured Parzen estimator. With a history it begins with
    the rates that did best on the data sets most like this one, and writes down what it tries.

    Args:
        score: trains with the rates it is given and returns a proper score on held-out rows,
            the negative log-likelihood of the Monte Carlo prediction for instance.
        ranges: lowest and highest rate, by name; what a name stands for is `score`'s to know.
        trials: how many; a grid takes them all, or the first ones in a shuffled order.
        method: `"bayesian"` or `"grid"`.
        levels: of a grid, for each rate.
        history: of earlier searches.
        data: name of the data set, for the history.
        features: what the data set is like, `data_features(x, y)`.
        seed: of the search.
        progress: told how many trials are done, and of how many.

    Raises:
        InputError: an argument does not fit, no trial had a finite score, or Optuna is missing.

    Source: Feurer, Springenberg & Hutter 2015, "Initializing Bayesian hyperparameter optimization
    via meta-learning"; Bergstra et al. 2011, "Algorithms for hyper-parameter optimization".

    Example:
        >>> found = search_rates(lambda rates: (rates["hidden"] - 0.3) ** 2, {"hidden": (0, 0.8)})
        >>> abs(found.best.rates["hidden"] - 0.3) < 0.1
        True
    """
    one_of("method", method, ("bayesian", "grid"))
    bounds = {name: _range(name, limits) for name, limits in ranges.items()}
    if not bounds:
        raise InputError("ranges is empty: name a rate, with its lowest and highest value")
    if history is not None and not data:
        raise InputError("a history needs to know which data set this is: say data=…")
    most = integer("trials", trials, 1)
    seed = integer("seed", seed, 0, _MOST_SEED)
    told = _finite(features or {})
    if method == "grid":
        points = _grid(bounds, integer("levels", levels, 2), most, seed)
        most = len(points)
        run = _InTurn(points).run
    else:
        run = _Study(_suggested(history, data, told, bounds), bounds, seed, most).run
    done: list[RateTrial] = []
    for _ in range(most):
        trial = run(score)
        done.append(trial)
        if history is not None and math.isfinite(trial.score):
            history.add(Entry(data, told, trial.rates, trial.score))
        if progress is not None:
            progress(len(done), most)
    return RateSearch(_best(done), tuple(done))


class _InTurn:
    """Points of a grid, one after another."""

    def __init__(self, points: Sequence[dict[str, float]]) -> None:
        self._left = iter(points)

    def run(self, score: Score) -> RateTrial:
        """Have the next point scored."""
        rates = next(self._left)
        return RateTrial(rates, float(score(dict(rates))))


class _Study:
    """Optuna's study, asked for one trial after another.

    Args:
        first: rates to begin with.
        bounds: of each rate.
        seed: of those that are sampled.
        trials: how many there will be.
    """

    def __init__(
        self,
        first: Sequence[dict[str, float]],
        bounds: Mapping[str, tuple[float, float]],
        seed: int,
        trials: int,
    ) -> None:
        self._optuna = _optuna()
        self._bounds = bounds
        startup = min(_STARTUP, trials)
        sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        with self._quiet():
            self._study = self._optuna.create_study(sampler=sampler)
            for rates in first:
                self._study.enqueue_trial(rates)

    def run(self, score: Score) -> RateTrial:
        """Take the next rates, and have them scored."""
        with self._quiet():
            trial = self._study.ask()
            rates = {name: trial.suggest_float(name, *b) for name, b in self._bounds.items()}
        value = float(score(dict(rates)))
        failed = self._optuna.trial.TrialState.FAIL
        with self._quiet():
            if math.isfinite(value):
                self._study.tell(trial, value)
            else:
                self._study.tell(trial, state=failed)
        return RateTrial(rates, value)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Optuna logs every trial; its verbosity is the process's, and is put back."""
        log = self._optuna.logging
        before = log.get_verbosity()
        log.set_verbosity(log.WARNING)
        try:
            yield
        finally:
            log.set_verbosity(before)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError(
            "the rate search needs Optuna: pip install 'mcdrop[tune]', or search by hand"
        ) from None
    return optuna


def _finite(features: Mapping[str, float]) -> dict[str, float]:
    told = {name: number(f"the feature {name!r}", value) for name, value in features.items()}
    for name, value in told.items():
        if not math.isfinite(value):
            raise InputError(f"the feature {name!r} must be finite; got {value}")
    return told


def _range(name: str, limits: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (number(f"a limit of rate {name!r}", limit) for limit in limits)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0.0 <= low < high < 1.0:
        raise InputError(
            f"the range of rate {name!r} must be two numbers from 0 to below 1, the lower one "
            f"first; got {limits!r}"
        )
    return low, high


def _grid(
    bounds: Mapping[str, tuple[float, float]], levels: int, most: int, seed: int
) -> list[dict[str, float]]:
    """Combinations of levels, none of them twice and at most so many: some of them tell of all."""
    size = levels ** len(bounds)
    chosen = random.Random(seed).sample(range(size), min(most, size))  # noqa: S311 (nothing to guess)
    points = []
    for place in chosen:
        point, rest = {}, place
        for name, (low, high) in bounds.items():
            rest, level = divmod(rest, levels)
            point[name] = low + (high - low) * level / (levels - 1)
        points.append(point)
    return points


def _suggested(
    history: History | None,
    data: str,
    features: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> list[dict[str, float]]:
    """Earlier bests, each rate within what is searched."""
    if history is None:
        return []
    found: list[dict[str, float]] = []
    for rates in history.suggestions(data, features, list(bounds)):
        within = {name: min(max(rates[name], low), high) for name, (low, high) in bounds.items()}
        if within not in found:
            found.append(within)
    return found[:_WARM]


def _best(trials: Sequence[RateTrial]) -> RateTrial:
    finite = [trial for trial in trials if math.isfinite(trial.score)]
    if not finite:
        raise InputError("no trial had a finite score: does the net train at all?")
    return min(finite, key=lambda trial: trial.score)
