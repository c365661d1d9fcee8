"""What a technique is worth on some data, from all of its trials."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.compare.answers import Answers
from mcdrop.compare.data import Fold
from mcdrop.compare.differences import Difference, difference, ranking
from mcdrop.compare.techniques import Technique
from mcdrop.compare.trial import Said, Trial
from mcdrop.metrics import functional


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a technique is worth on some data; every row was held out once in each training.

    "Off" is the deterministic pass of the same trained net. Differences are of nll, row by row,
    with a standard error over rows and trainings, see `mcdrop.compare.differences`.

    Attributes:
        technique: its name; `"none"` for the net alone.
        net: the net that it is in.
        rate: as it was set.
        error: share of wrong classes, or root mean squared error in units of the target.
        nll: negative log-likelihood in nats a row; of numbers, that of one normal distribution, in
            units of the target.
        nll_off: the same, off.
        against_none: nll less that of the net alone.
        against_none_error: its standard error.
        off_against_none: nll off less that of the net alone: what training with the noise brought.
        off_against_none_error: its standard error.
        against_off: nll less that off: what sampling the noise brought.
        against_off_error: its standard error.
        calibration: expected calibration error in 15 bins, or root mean square difference of 99
            quantiles from their levels.
        auroc: of rows from outside against those held out, by entropy or deviation; the mean over
            folds and trainings.
        auroc_error: its standard error.
        auroc_off: the same, off.
        auroc_off_error: its standard error.
        best_epoch: whose weights were kept, the median.
        unfinished: of the trainings, how many might have gone on with more epochs.
        epoch_ms: of CPU time to train for an epoch, the median.
        predict_ms: of CPU time to answer for the rows held out of a fold, the least.
    """

    technique: str
    net: str
    rate: str
    error: float
    nll: float
    nll_off: float
    against_none: float
    against_none_error: float
    off_against_none: float
    off_against_none_error: float
    against_off: float
    against_off_error: float
    calibration: float
    auroc: float
    auroc_error: float
    auroc_off: float
    auroc_off_error: float
    best_epoch: float
    unfinished: int
    epoch_ms: float
    predict_ms: float

    @property
    def worse(self) -> bool:
        """Whether the likelihood is clearly lower than that of the net alone: by two errors."""
        return self.against_none > 2.0 * self.against_none_error

    @property
    def better(self) -> bool:
        """Whether it is clearly higher."""
        return self.against_none < -2.0 * self.against_none_error


@dataclass(frozen=True, slots=True)
class Trials:
    """All trials of a technique.

    Attributes:
        technique: in its net.
        folds: of each training; all hold the same rows out.
        trials: of each training, one a fold.
    """

    technique: Technique
    folds: Sequence[Sequence[Fold]]
    trials: Sequence[Sequence[Trial]]

    def losses(self, *, off: bool = False) -> Tensor:
        """Of every row in every training, `[S, N]`, in the target's own units."""
        return torch.stack(
            [
                torch.cat(
                    [_losses(fold, trial, off=off) for fold, trial in zip(*pair, strict=True)]
                )
                for pair in zip(self.folds, self.trials, strict=True)
            ]
        )

    def outcome(self, alone: Tensor) -> Outcome:
        """What is to be said of them.

        Args:
            alone: losses of the net without the technique, `[S, N]`.
        """
        losses, off = self.losses(), self.losses(off=True)
        sizes = [len(fold.test[0]) for fold in self.folds[0]]
        whole, trained, sampled = (
            difference(*pair, sizes) for pair in ((losses, alone), (off, alone), (losses, off))
        )
        every = [trial for trials in self.trials for trial in trials]
        errors, calibrations = zip(*map(_errors, self.folds, self.trials), strict=True)
        auroc = _auroc([[trial.said for trial in trials] for trials in self.trials], sizes)
        auroc_off = _auroc([[trial.off for trial in trials] for trials in self.trials], sizes)
        timed = [t.predict_seconds for t in every if t.predict_seconds is not None]
        return Outcome(
            technique=self.technique.name,
            net=self.technique.net,
            rate=self.technique.rate,
            error=statistics.fmean(errors),
            nll=losses.mean().item(),
            nll_off=off.mean().item(),
            against_none=whole.mean,
            against_none_error=whole.error,
            off_against_none=trained.mean,
            off_against_none_error=trained.error,
            against_off=sampled.mean,
            against_off_error=sampled.error,
            calibration=statistics.fmean(calibrations),
            auroc=auroc.mean,
            auroc_error=auroc.error,
            auroc_off=auroc_off.mean,
            auroc_off_error=auroc_off.error,
            best_epoch=statistics.median(trial.best_epoch for trial in every),
            unfinished=sum(trial.unfinished for trial in every),
            epoch_ms=1e3 * statistics.median(trial.epoch_seconds for trial in every),
            predict_ms=1e3 * min(timed),
        )


def _losses(fold: Fold, trial: Trial, *, off: bool) -> Tensor:
    answers = (trial.off if off else trial.said).held
    return answers.losses(fold.test[1]) + math.log(fold.scale)


def _auroc(said: Sequence[Sequence[Said]], sizes: Sequence[int]) -> Difference:
    """The mean over folds and trainings, and its standard error."""
    areas = torch.stack(
        [
            torch.cat([ranking(a.held.uncertainty, a.outside.uncertainty) for a in row])
            for row in said
        ]
    )  # [S, N]
    return difference(areas, torch.zeros_like(areas), sizes)


def _errors(folds: Sequence[Fold], trials: Sequence[Trial]) -> tuple[float, float]:
    """The error and the calibration error of the rows of all folds."""
    targets = torch.cat([fold.test[1] * fold.scale for fold in folds])
    held = _joined([trial.said.held for trial in trials], folds)
    if held.variance is None:
        labels = targets.long()
        wrong = (held.mean.argmax(1) != labels).double().mean()
        gap = functional.expected_calibration_error(probs=held.mean, labels=labels)
        return wrong.item(), gap.item()
    root = (held.mean - targets).double().square().mean().sqrt()
    found = functional.quantile_calibration(held.mean, held.variance.sqrt(), targets)
    return root.item(), found.root_mean_square.item()


def _joined(answers: Sequence[Answers], folds: Sequence[Fold]) -> Answers:
    """Answers of all folds, numbers in the target's own units."""
    if answers[0].variance is None:
        return Answers(torch.cat([answer.mean for answer in answers]), None)
    pairs = list(zip(answers, folds, strict=True))
    mean = torch.cat([answer.mean * fold.scale for answer, fold in pairs])
    spreads = [a.variance * f.scale**2 for a, f in pairs if a.variance is not None]
    return Answers(mean, torch.cat(spreads))
