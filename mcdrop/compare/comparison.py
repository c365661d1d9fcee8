"""The comparison: every technique on every fold, and what is to be said of each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from mcdrop.arguments import integer, one_of
from mcdrop.compare.data import DATA, DataName, Fold, folds, task_of
from mcdrop.compare.techniques import TECHNIQUES, Technique
from mcdrop.compare.trial import Answers, Trial, run
from mcdrop.errors import InputError
from mcdrop.metrics import functional

_MOST_SEED = 2**32 - 1 - 100  # scikit-learn's, and a fold's own is added


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a technique is worth on some data; every row was held out once.

    Attributes:
        technique: its name; `"none"` for the net alone.
        net: the net that it is in.
        rate: as it was set.
        error: share of wrong classes, or root mean squared error in units of the target.
        nll: negative log-likelihood in nats a row; of numbers, that of one normal distribution, in
            units of the target.
        against_none: nll less that of the net alone, row by row.
        against_none_error: standard error of that difference over rows; each fold has one training,
            whose luck is not in it.
        calibration: expected calibration error in 15 bins, or root mean square difference of 99
            quantiles from their levels.
        auroc: of rows from outside against those held out, by entropy or deviation.
        train_seconds: of a fold, the median.
        predict_ms: of the rows held out of a fold, the median.
    """

    technique: str
    net: str
    rate: str
    error: float
    nll: float
    against_none: float
    against_none_error: float
    calibration: float
    auroc: float
    train_seconds: float
    predict_ms: float

    @property
    def worse(self) -> bool:
        """Whether the likelihood is clearly lower than that of the net alone: by two errors."""
        return self.against_none > 2.0 * self.against_none_error


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcomes of techniques on some data.

    Attributes:
        data: its name.
        folds: how many.
        epochs: of each training.
        outcomes: in the order of the techniques.
    """

    data: DataName
    folds: int
    epochs: int
    outcomes: tuple[Outcome, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> Comparison:
        """What `to_dict` gave."""
        outcomes = tuple(Outcome(**outcome) for outcome in fields["outcomes"])
        return Comparison(fields["data"], fields["folds"], fields["epochs"], outcomes)


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
    epochs: int = 40,
    patterns: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Cross-validate techniques, each in its net, all with the same budget.

    Args:
        data: `"digits"` or `"diabetes"`.
        count: of folds.
        epochs: of each training.
        patterns: of names of techniques; all by default.
        seed: of folds, weights and batches.
        progress: told how many trainings are done, and of how many.

    Raises:
        InputError: an argument does not fit.
        McdropError: scikit-learn is not installed.
    """
    one_of("data", data, DATA)
    techniques = chosen(patterns)
    integer("epochs", epochs, 1)
    integer("seed", seed, 0, _MOST_SEED)
    task, done = task_of(data), 0
    cut = list(folds(data, integer("folds", count, 2, 100), seed))
    total = len(techniques) * len(cut)
    plain: dict[str, Tensor] = {}
    outcomes = []
    for technique in techniques:
        trials = []
        for number, fold in enumerate(cut):
            trials.append(run(technique, fold, task, epochs=epochs, seed=seed + number))
            done += 1
            if progress is not None:
                progress(done, total)
        losses = _losses(cut, trials)
        if technique.plain:
            plain[technique.net] = losses
        outcomes.append(_outcome(technique, cut, trials, losses, losses - plain[technique.net]))
    return Comparison(data, len(cut), epochs, tuple(outcomes))


def _losses(cut: Sequence[Fold], trials: Sequence[Trial]) -> Tensor:
    """Of every row, in the target's own units."""
    scale = (torch.tensor(fold.scale).log() for fold in cut)
    return torch.cat(
        [
            trial.held.losses(fold.test[1]) + log
            for fold, trial, log in zip(cut, trials, scale, strict=True)
        ]
    )


def _outcome(
    technique: Technique,
    cut: Sequence[Fold],
    trials: Sequence[Trial],
    losses: Tensor,
    difference: Tensor,
) -> Outcome:
    targets = torch.cat([fold.test[1] * fold.scale for fold in cut])
    held = _joined([trial.held for trial in trials], cut)
    inside = torch.cat([trial.held.uncertainty for trial in trials])
    outside = torch.cat([trial.outside.uncertainty for trial in trials])
    error, calibration = _errors(held, targets)
    return Outcome(
        technique=technique.name,
        net=technique.net,
        rate=technique.rate,
        error=error,
        nll=losses.mean().item(),
        against_none=difference.mean().item(),
        against_none_error=difference.std().item() / len(difference) ** 0.5,
        calibration=calibration,
        auroc=functional.detection_auroc(inside, outside).item(),
        train_seconds=statistics.median(trial.train_seconds for trial in trials),
        predict_ms=1e3 * statistics.median(trial.predict_seconds for trial in trials),
    )


def _joined(answers: Sequence[Answers], cut: Sequence[Fold]) -> Answers:
    """Answers of all folds, numbers in the target's own units."""
    if answers[0].variance is None:
        return Answers(torch.cat([answer.mean for answer in answers]), None)
    pairs = list(zip(answers, cut, strict=True))
    mean = torch.cat([answer.mean * fold.scale for answer, fold in pairs])
    spreads = [a.variance * f.scale**2 for a, f in pairs if a.variance is not None]
    return Answers(mean, torch.cat(spreads))


def _errors(held: Answers, targets: Tensor) -> tuple[float, float]:
    """The error, and the calibration error."""
    if held.variance is None:
        labels = targets.long()
        wrong = (held.mean.argmax(1) != labels).double().mean()
        gap = functional.expected_calibration_error(probs=held.mean, labels=labels)
        return wrong.item(), gap.item()
    root = (held.mean - targets).double().square().mean().sqrt()
    found = functional.quantile_calibration(held.mean, held.variance.sqrt(), targets)
    return root.item(), found.root_mean_square.item()
