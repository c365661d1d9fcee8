"""From predictions and what turned out to be true to a `Calibration`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mcdrop.arguments import one_of
from mcdrop.calibration.binning import HistogramBinning, IsotonicCalibration
from mcdrop.calibration.conformal import ConformalQuantiles
from mcdrop.calibration.deviations import DeviationScaling, QuantileRecalibration
from mcdrop.calibration.layout import flat_labels, flat_probs, shaped_probs, shaped_targets
from mcdrop.calibration.record import Calibration, NumberScaling, ProbabilityScaling
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

Method = Literal[
    "auto",
    "none",
    "sample_temperature",
    "temperature",
    "vector",
    "matrix",
    "histogram",
    "isotonic",
    "deviation",
    "quantiles",
]
Conformal = Literal["auto", "none", "thr", "aps", "raps", "scaled", "absolute", "cqr"]

CLASS_METHODS: tuple[Method, ...] = (
    "none",
    "sample_temperature",
    "temperature",
    "vector",
    "matrix",
    "histogram",
    "isotonic",
)
NUMBER_METHODS: tuple[Method, ...] = ("none", "deviation", "quantiles")
SET_SCORES: tuple[Conformal, ...] = ("none", "thr", "aps", "raps")
INTERVAL_SCORES: tuple[Conformal, ...] = ("none", "scaled", "absolute", "cqr")
_FEWEST = 20
_FITS: Mapping[str, Callable[..., ProbabilityScaling]] = {
    "temperature": Temperature.fit,
    "vector": VectorScaling.fit,
    # a matrix has too many numbers for most held-out sets: pulled towards the diagonal
    "matrix": partial(MatrixScaling.fit, penalty=0.1),
    "histogram": HistogramBinning.fit,
    "isotonic": IsotonicCalibration.fit,
}


def choose(task: AnyTask, method: Method, conformal: Conformal) -> tuple[Method, Conformal]:
    """Fill in `"auto"`, and refuse what the task does not have.

    Returns:
        For classes `"sample_temperature"` (inside of the average over samples, so that total
        uncertainty stays the sum of its parts) and `"thr"` (no sets for binary and multilabel), for
        numbers `"deviation"` and `"scaled"`.

    Raises:
        InputError: the task does not have it.
    """
    numbers = isinstance(task, Regression | Gaussian)
    methods = NUMBER_METHODS if numbers else CLASS_METHODS
    rules = INTERVAL_SCORES if numbers else SET_SCORES
    if isinstance(task, Binary | Multilabel):
        rules = rules[:1]
    one_of(f"the method for a {task.kind} model", method, ("auto", *methods))
    one_of(f"conformal for a {task.kind} model", conformal, ("auto", *rules))
    chosen = methods[1] if method == "auto" else method
    return chosen, rules[:2][-1] if conformal == "auto" else conformal


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
    """Fit calibrators on held-out rows.

    Where both a scaling and a conformal rule that depends on it are fitted, each gets half of the
    rows, drawn at random: scores of rows that the scaling was fitted on would be a little too good,
    and coverage would not be what was asked for. (Of numbers only `"cqr"` depends on it: absolute
    errors do not, and in errors over deviations a factor cancels.)

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
    rows = len(prediction.mean)
    if rows < _FEWEST:
        raise InputError(f"expected at least {_FEWEST} held-out rows to calibrate on; got {rows}")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    order = order.to(prediction.mean.device)
    bound = conformal in ("thr", "aps", "raps", "cqr")
    both = method != "none" and bound
    first, second = (order[: rows // 2], order[rows // 2 :]) if both else (order, order)
    bare = Calibration(task, source=source, cases=0)
    if isinstance(prediction, RegressionPrediction):
        truth = shaped_targets(prediction.mean, targets)
        if method != "none" or conformal == "scaled":
            _require_spread(prediction)
        scaling = _number_scaling(method, prediction.rows(first), truth[first])
        fitted = dataclasses.replace(bare, scaling=scaling, cases=truth.numel())
        rest, true = fitted.apply(prediction.rows(second)), truth[second]
        std = rest.variance.sqrt()
        selection = Selection.of("std", std, (true - rest.mean).square())
        intervals = _intervals(conformal, fitted, rest, true, level)
        return dataclasses.replace(fitted, intervals=intervals, selection=selection)
    assert isinstance(prediction, ClassificationPrediction)
    labels = flat_labels(task, prediction.mean, targets).reshape(rows, -1).to(order.device)
    logits = None if method != "sample_temperature" else _logits(task, raw, rows)
    part = None if logits is None else logits[:, first]
    scale = _class_scaling(task, method, prediction.rows(first), labels[first].flatten(), part)
    calibrated = dataclasses.replace(bare, scaling=scale, cases=labels.numel())
    left = calibrated.apply(prediction.rows(second))
    if isinstance(scale, SampleTemperature) and logits is not None:
        left = _tempered(calibrated, scale, logits[:, second], left)
    return _class_rules(calibrated, conformal, left, labels[second].flatten())


def _require_spread(prediction: RegressionPrediction) -> None:
    exact = int((prediction.variance == 0.0).sum())
    if exact:
        raise InputError(
            f"the predicted variance is 0 for {exact} of {prediction.variance.numel()} held-out "
            "numbers, which no factor makes larger: tell the noise of the data, with "
            'task=mcdrop.tasks.Regression(noise_variance=…), or take method="none" with '
            'conformal="absolute"'
        )


def _number_scaling(
    method: Method, prediction: RegressionPrediction, truth: Tensor
) -> NumberScaling | None:
    if method == "none":
        return None
    kind = DeviationScaling if method == "deviation" else QuantileRecalibration
    return kind.fit(prediction.mean, prediction.variance.sqrt(), truth)


def _intervals(
    conformal: Conformal,
    fitted: Calibration,
    prediction: RegressionPrediction,
    truth: Tensor,
    level: float,
) -> IntervalRule | ConformalQuantiles | None:
    if conformal == "none":
        return None
    if conformal == "cqr":
        lower, upper = fitted.interval(prediction, level)
        fitted_quantiles = ConformalQuantiles.fit(lower, upper, truth, level=level)
        if math.isinf(fitted_quantiles.shift):
            raise InputError(f"{len(truth)} rows are too few for intervals that hold {level:g}")
        return fitted_quantiles
    std = prediction.variance.sqrt() if conformal == "scaled" else None
    return IntervalRule.fit(prediction.mean, truth, std=std)


def _class_scaling(
    task: AnyTask,
    method: Method,
    prediction: ClassificationPrediction,
    labels: Tensor,
    logits: Tensor | None,
) -> ProbabilityScaling | None:
    if method == "none":
        return None
    if method == "sample_temperature":
        assert logits is not None
        return SampleTemperature.fit(logits=logits.flatten(1, 2), labels=labels)
    return _FITS[method](probs=flat_probs(task, prediction.mean), labels=labels)


def _class_rules(
    fitted: Calibration, conformal: Conformal, prediction: ClassificationPrediction, labels: Tensor
) -> Calibration:
    probs = flat_probs(fitted.task, prediction.mean)
    answers = probs.argmax(1) if probs.ndim > 1 else (probs > 0.5).long()
    wrong = (answers != labels).double()
    sets = None
    if conformal in ("thr", "aps", "raps"):
        sets = SetRule.fit(probs=probs, labels=labels, score=conformal)
    selection = Selection.of("entropy", prediction.entropy.flatten(), wrong)
    return dataclasses.replace(fitted, sets=sets, selection=selection)


def _logits(task: AnyTask, raw: Tensor | None, rows: int) -> Tensor:
    """Logits of samples, float64 `[S, B, cases of a row, C]`, or without C for yes and no."""
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
