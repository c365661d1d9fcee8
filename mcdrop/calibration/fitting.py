"""From predictions and what turned out to be true to a `Calibration`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.layout import flat_labels, flat_probs, shaped_probs, shaped_targets
from mcdrop.calibration.methods import Conformal, Method, choose
from mcdrop.calibration.outputs import (
    IntervalKind,
    NumberScaling,
    OutputIntervals,
    OutputScalings,
)
from mcdrop.calibration.record import Calibration, ProbabilityScaling
from mcdrop.calibration.rules import IntervalRule, SetRule
from mcdrop.calibration.scaling import (
    MatrixScaling,
    SampleTemperature,
    Temperature,
    VectorScaling,
)
from mcdrop.calibration.selection import Selection
from mcdrop.errors import InputError
from mcdrop.prediction import ClassificationPrediction, Prediction, RegressionPrediction
from mcdrop.tasks import AnyTask, Binary, Classification, Gaussian, Multilabel, Regression

_FEWEST = 20
_FITS: Mapping[str, Callable[..., ProbabilityScaling]] = {
    "temperature": Temperature.fit,
    "vector": VectorScaling.fit,
    # a matrix has too many numbers for most held-out sets: pulled towards the diagonal
    "matrix": partial(MatrixScaling.fit, penalty=0.1),
    "histogram": HistogramBinning.fit,
    "isotonic": IsotonicCalibration.fit,
}


def fit_calibration(
    task: AnyTask,
    prediction: Prediction,
    targets: Tensor,
    *,
    method: Method = "auto",
    conformal: Conformal = "auto",
    level: float = 0.9,
    raw: Tensor | None = None,
    seed: int = 0,
    source: str = "",
) -> Calibration:
    """Fit calibrators on predictions of held-out rows; `MCDropout.calibrate` makes them itself.

    Where both a scaling and a conformal rule that depends on it are fitted, each gets half of the
    rows, drawn at random: scores of rows that the scaling was fitted on would be a little too good,
    and coverage would not be what was asked for. (Of numbers only `"cqr"` depends on it: absolute
    errors do not, and in errors over deviations a factor cancels.) Of several numbers,
    `[B, D]`, each output is calibrated on its own.

    Args:
        task: of the model.
        prediction: of held-out rows, not calibrated.
        targets: what turned out to be true, `[B, ...]`: labels, or numbers.
        method: how probabilities or deviations are recalibrated; see `choose` for `"auto"`.
        conformal: score of conformal sets or intervals; `"cqr"` is fitted for `level` alone.
        level: of `"cqr"`.
        raw: `MCDropout.sample` of the rows, `[S, B, ...]`, for `"sample_temperature"`.
        seed: of the halves.
        source: where the rows are from, for people.

    Raises:
        InputError: an argument does not fit, there are fewer than 20 rows, or nothing can be
            fitted on them.

    Example:
        >>> import mcdrop
        >>> net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(2, 1))
        >>> mc = mcdrop.MCDropout(net, torch.ones(1, 2), task="regression")
        >>> x, y = torch.randn(40, 2), torch.randn(40, 1)
        >>> fit_calibration(mc.task, mc.predict(x), y).describe()
        'DeviationScaling, conformal intervals (scaled)'
    """
    method, conformal = choose(task, method, conformal)
    truth = checked_targets(task, prediction.mean, targets)
    first, second = halves(len(truth), method, conformal, seed)
    blank = Calibration(task, source=source)
    if method == "sample_temperature":
        logits = logits_of(task, raw, len(truth))
        fitted = fit_temperature(blank, logits[:, first], truth[first])
        assert isinstance(fitted.scaling, SampleTemperature)
        assert isinstance(prediction, ClassificationPrediction)
        rest: Prediction = _tempered(
            fitted, fitted.scaling, logits[:, second], prediction.rows(second)
        )
    else:
        fitted = fit_scaling(blank, method, conformal, prediction.rows(first), truth[first])
        rest = fitted.apply(prediction.rows(second))
    return fit_rules(fitted, conformal, rest, truth[second], level, cases=truth.numel())


def halves(rows: int, method: Method, conformal: Conformal, seed: int) -> tuple[Tensor, Tensor]:
    """Which rows a scaling is fitted on, and which ones conformal rules: all, or half each.

    Raises:
        InputError: there are fewer than 20.
    """
    if rows < _FEWEST:
        raise InputError(f"expected at least {_FEWEST} held-out rows to calibrate on; got {rows}")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    if method != "none" and conformal in ("thr", "aps", "raps", "cqr"):
        return order[: rows // 2], order[rows // 2 :]
    return order, order


def checked_targets(task: AnyTask, mean: Tensor, targets: Tensor) -> Tensor:
    """What is true, on the device of a prediction's mean: of its shape, or labels `[B, cases]`.

    Raises:
        InputError: shapes do not fit, or labels are no integers.
    """
    if isinstance(task, Regression | Gaussian):
        return shaped_targets(mean, targets)
    return flat_labels(task, mean, targets).reshape(len(mean), -1).to(mean.device)


def fit_scaling(
    blank: Calibration,
    method: Method,
    conformal: Conformal,
    prediction: Prediction,
    truth: Tensor,
) -> Calibration:
    """A calibration with a scaling of probabilities or deviations only.

    Args:
        blank: without one.
        method: which; not `"sample_temperature"`, see `fit_temperature`.
        conformal: what is to follow.
        prediction: of the rows to fit it on, not calibrated.
        truth: of these rows, see `checked_targets`.

    Raises:
        InputError: nothing can be fitted on these rows.
    """
    if isinstance(prediction, RegressionPrediction) and conformal == "scaled":
        _require_spread(prediction)
    if method == "none":
        return blank
    scaling: ProbabilityScaling | NumberScaling | OutputScalings
    if isinstance(prediction, RegressionPrediction):
        _require_spread(prediction)
        kind = DeviationScaling if method == "deviation" else QuantileRecalibration
        std = prediction.variance.sqrt()
        columns = _columns(prediction.mean)
        parts = [kind.fit(prediction.mean[c], std[c], truth[c]) for c in columns]
        scaling = parts[0] if len(parts) == 1 else OutputScalings(tuple(parts))
    else:
        probs = flat_probs(blank.task, prediction.mean)
        scaling = _FITS[method](probs=probs, labels=truth.flatten())
    return dataclasses.replace(blank, scaling=scaling, scaling_cases=truth.numel())


def fit_temperature(blank: Calibration, logits: Tensor, truth: Tensor) -> Calibration:
    """A calibration with a temperature inside of the average over samples only.

    Args:
        blank: without one.
        logits: of samples, see `logits_of`.
        truth: labels, `[B, cases of a row]`.
    """
    scaling = SampleTemperature.fit(logits=logits.flatten(1, 2), labels=truth.flatten())
    return dataclasses.replace(blank, scaling=scaling, scaling_cases=truth.numel())


def fit_rules(
    fitted: Calibration,
    conformal: Conformal,
    prediction: Prediction,
    truth: Tensor,
    level: float,
    *,
    cases: int,
) -> Calibration:
    """The calibration with conformal sets or intervals, and with what abstaining costs.

    Args:
        fitted: what was fitted so far.
        conformal: which rule.
        prediction: calibrated, of rows that the scaling was not fitted on where the rule depends
            on it.
        truth: of these rows, see `checked_targets`.
        level: of `"cqr"`.
        cases: that all of it was fitted on.

    Raises:
        InputError: there are too few rows.
    """
    if isinstance(prediction, RegressionPrediction):
        std = prediction.variance.sqrt()
        selection = Selection.of("std", std, (truth - prediction.mean).square())
        intervals = _intervals(conformal, fitted, prediction, truth, level)
        return dataclasses.replace(fitted, intervals=intervals, selection=selection, cases=cases)
    assert isinstance(prediction, ClassificationPrediction)
    probs, labels = flat_probs(fitted.task, prediction.mean), truth.flatten()
    answers = probs.argmax(1) if probs.ndim > 1 else (probs > 0.5).long()
    wrong = (answers != labels).double()
    sets = None
    if conformal in ("thr", "aps", "raps"):
        sets = SetRule.fit(probs=probs, labels=labels, score=conformal)
    selection = Selection.of("entropy", prediction.entropy.flatten(), wrong)
    return dataclasses.replace(fitted, sets=sets, selection=selection, cases=cases)


def _columns(mean: Tensor) -> list[tuple[slice, ...]]:
    """Where each output of a prediction is: `[B, D]` has D of them, any other shape is one."""
    if mean.ndim == 2 and mean.shape[1] > 1:
        return [(slice(None), slice(i, i + 1)) for i in range(mean.shape[1])]
    return [(slice(None),)]


def _require_spread(prediction: RegressionPrediction) -> None:
    exact = int((prediction.variance == 0.0).sum())
    if exact:
        raise InputError(
            f"the predicted variance is 0 for {exact} of {prediction.variance.numel()} held-out "
            "numbers, which no factor makes larger: tell the noise of the data, with "
            'task=mcdrop.tasks.Regression(noise_variance=…), or take method="none" with '
            'conformal="absolute"'
        )


def _intervals(
    conformal: Conformal,
    fitted: Calibration,
    prediction: RegressionPrediction,
    truth: Tensor,
    level: float,
) -> IntervalKind | OutputIntervals | None:
    if conformal == "none":
        return None
    mean, std = prediction.mean, prediction.variance.sqrt()
    columns = _columns(mean)
    parts: list[IntervalKind]
    if conformal == "cqr":
        lower, upper = fitted.quantile_interval(prediction, level)
        parts = [ConformalQuantiles.fit(lower[c], upper[c], truth[c], level=level) for c in columns]
        if any(isinstance(p, ConformalQuantiles) and math.isinf(p.shift) for p in parts):
            raise InputError(f"{len(truth)} rows are too few for intervals that hold {level:g}")
    else:
        scaled = conformal == "scaled"
        parts = [
            IntervalRule.fit(mean[c], truth[c], std=std[c] if scaled else None) for c in columns
        ]
    return parts[0] if len(parts) == 1 else OutputIntervals(tuple(parts))


def logits_of(task: AnyTask, raw: Tensor | None, rows: int) -> Tensor:
    """Logits of samples, float64 `[S, B, cases of a row, C]`, or without C for yes and no.

    Raises:
        InputError: there are none, or of other rows.
    """
    if raw is None or raw.ndim < 2 or raw.shape[1] != rows:
        got = "none" if raw is None else str(list(raw.shape))
        raise InputError(f"sample_temperature needs raw samples [S, {rows}, ...]; got {got}")
    assert isinstance(task, Classification | Binary | Multilabel)
    wide = raw.detach().double()
    if isinstance(task, Classification):
        if task.output == "probs":
            wide = wide.clamp_min(1e-30).log()
        dim = task.dim if task.dim < 0 else task.dim + 1
        wide = wide.movedim(dim, -1)
        return wide.reshape(*wide.shape[:2], -1, wide.shape[-1])
    if task.output == "probs":
        wide = wide.clamp(1e-15, 1.0 - 1e-15).logit()
    return wide.reshape(*wide.shape[:2], -1)


def _tempered(
    fitted: Calibration,
    scaling: SampleTemperature,
    logits: Tensor,
    prediction: ClassificationPrediction,
) -> ClassificationPrediction:
    """The prediction that the samples give at this temperature."""
    flat = scaling(logits=logits.flatten(1, 2))
    mean = shaped_probs(fitted.task, flat.to(prediction.mean.dtype), prediction.mean)
    entropy = fitted.entropy(mean)
    return dataclasses.replace(prediction, mean=mean, entropy=entropy)
