"""The comparison: every technique on every fold, and what is to be said of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from mcdrop.arguments import integer, one_of
from mcdrop.compare.data import DATA, DataName, folds, task_of
from mcdrop.compare.outcome import Outcome, Trials
from mcdrop.compare.techniques import TECHNIQUES, Technique
from mcdrop.compare.trial import Trial, run
from mcdrop.errors import InputError

_MOST = 100  # folds, and trainings of each
_MOST_SEED = 2**32 - 1 - _MOST**2  # scikit-learn's, and a training's own is added


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcomes of techniques on some data.

    Attributes:
        data: its name.
        folds: how many.
        seeds: trainings of each fold.
        epochs: of each training, at most.
        outcomes: in the order of the techniques.
    """

    data: DataName
    folds: int
    seeds: int
    epochs: int
    outcomes: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Comparison:
        """What `to_dict` gave."""
        outcomes = tuple(Outcome(**outcome) for outcome in fields["outcomes"])
        return Comparison(**{**fields, "outcomes": outcomes})


def chosen(patterns: Sequence[str] | None) -> tuple[Technique, ...]:
    """Techniques whose names match, with the plain nets that they are held against.

    Args:
        patterns: as for `fnmatch`; all for `None`.

    Raises:
        InputError: a pattern matches none.
    """
    if patterns is None:
        return TECHNIQUES
    for pattern in patterns:
        if not any(fnmatchcase(t.name, pattern) for t in TECHNIQUES if not t.plain):
            known = ", ".join(t.name for t in TECHNIQUES if not t.plain)
            raise InputError(f"no technique is called {pattern!r}; there are: {known}")
    named = [t for t in TECHNIQUES if any(fnmatchcase(t.name, p) for p in patterns)]
    nets = {technique.net for technique in named if not technique.plain}
    return tuple(t for t in TECHNIQUES if t in named or (t.plain and t.net in nets))


def compare(
    data: DataName,
    *,
    count: int = 5,
    seeds: int = 1,
    epochs: int = 200,
    patterns: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Cross-validate techniques, each in its net, all stopped early in the same way.

    Args:
        data: `"digits"` or `"diabetes"`.
        count: of folds.
        seeds: trainings of each fold; of one, the luck of a training is in no standard error.
        epochs: of each training, at most.
        patterns: of names of techniques; all by default.
        seed: of folds, weights and batches; other trainings of a fold have seeds behind it.
        progress: told how many trainings are done, and of how many.

    Raises:
        InputError: an argument does not fit.
        McdropError: scikit-learn is not installed.
    """
    one_of("data", data, DATA)
    techniques = chosen(patterns)
    integer("epochs", epochs, 1)
    integer("seeds", seeds, 1, _MOST)
    integer("seed", seed, 0, _MOST_SEED)
    integer("folds", count, 2, _MOST)
    task, done = task_of(data), 0
    cuts = [list(folds(data, count, seed, training)) for training in range(seeds)]
    alone: dict[str, Tensor] = {}
    outcomes = []
    for technique in techniques:
        trials: list[list[Trial]] = [[] for _ in cuts]
        for training, cut in enumerate(cuts):
            for number, fold in enumerate(cut):
                own = seed + training * count + number
                first = done % (seeds * count) == 0  # one trial of a technique is timed
                trial = run(technique, fold, task, epochs=epochs, seed=own, timed=first)
                trials[training].append(trial)
                done += 1
                if progress is not None:
                    progress(done, len(techniques) * seeds * count)
        found = Trials(technique, cuts, trials)
        if technique.plain:
            alone[technique.net] = found.losses()
        outcomes.append(found.outcome(alone[technique.net]))
    return Comparison(data, count, seeds, epochs, tuple(outcomes))
