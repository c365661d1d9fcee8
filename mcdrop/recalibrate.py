"""Calibrating a model on held-out rows: each is sampled once, in parts that fit the memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from mcdrop.calibration.fitting import (
    checked_targets,
    fit_rules,
    fit_scaling,
    fit_temperature,
    halves,
    logits_of,
)
from mcdrop.calibration.methods import Conformal, Method, choose
from mcdrop.calibration.record import Calibration
from mcdrop.errors import InputError
from mcdrop.prediction import Prediction
from mcdrop.program.schema import Inputs
from mcdrop.summary import Progress
from mcdrop.tasks import AnyTask

# Logits of samples that a temperature is fitted on, at most: one number needs no more.
_LOGITS = 1 << 22
_ROWS_AT_A_TIME = 256


class Model(Protocol):
    """What is calibrated; `MCDropout` is one."""

    task: AnyTask
    calibration: Calibration | None

    def predict(
        self,
        x: Inputs,
        *,
        samples: int | None = None,
        seed: int | None = None,
        progress: Progress | None = None,
    ) -> Prediction:
        """Summarise samples of some rows."""
        ...

    def sample(self, x: Inputs, *, samples: int = 10, seed: int | None = None) -> Tensor:
        """The task's output entry of each sample, `[S, B, ...]`."""
        ...


def recalibrated(
    model: Model,
    x: Inputs,
    targets: Tensor,
    *,
    samples: int,
    method: Method = "auto",
    conformal: Conformal = "auto",
    level: float = 0.9,
    seed: int | None = None,
    source: str = "",
    progress: Progress | None = None,
) -> Calibration:
    """Fit calibrators of a model; arguments as for `MCDropout.calibrate`.

    Args:
        model: its calibration is taken off, and put on, while this runs: pass a copy.
        x: held-out rows.
        targets: what is true of them.
        samples: of each row.
        method: see `choose`.
        conformal: see `choose`.
        level: of `"cqr"`.
        seed: of the masks.
        source: where the rows are from.
        progress: told (done, total) in row-samples.

    Raises:
        InputError: an argument does not fit, or nothing can be fitted on these rows.
    """
    method, conformal = choose(model.task, method, conformal)
    rows = _rows(x)
    first, second = halves(rows, method, conformal, seed=0)
    model.calibration = None
    # whether the targets fit is told by one row, before the others are sampled
    look = model.predict(_some(x, first[:1]), samples=2, seed=seed).mean
    truth = checked_targets(model.task, look.expand(rows, *look.shape[1:]), targets)
    twice = first is not second or method == "sample_temperature"
    total = (len(first) + twice * len(second)) * samples

    def told(done_before: int) -> Progress:
        return lambda done, _: None if progress is None else progress(done_before + done, total)

    blank = Calibration(model.task, source=source)
    if method == "sample_temperature":
        logits, cases = _logits(model, x, first, look, samples, seed, told(0))
        labels = truth[first][:, cases] if cases is not None else truth[first]
        fitted = fit_temperature(blank, logits, labels)
    else:
        before = model.predict(_some(x, first), samples=samples, seed=seed, progress=told(0))
        fitted = fit_scaling(blank, method, conformal, before, truth[first])
    if twice:  # with the fitted temperature at work in each sample, if it is one
        model.calibration = fitted
        done = len(first) * samples
        rest = model.predict(_some(x, second), samples=samples, seed=seed, progress=told(done))
    else:
        rest = fitted.apply(before)
    return fit_rules(fitted, conformal, rest, truth[second], level, cases=truth.numel())


def _logits(
    model: Model,
    x: Inputs,
    rows: Tensor,
    look: Tensor,
    samples: int,
    seed: int | None,
    progress: Progress,
) -> tuple[Tensor, Tensor | None]:
    """Logits of samples, `[S, B, cases of a row, C]`: as many cases of each row as there is room.

    Returns:
        The logits, and which cases they are of; `None` for all.
    """
    of_a_row = samples * look.numel()
    step = max(1, min(_ROWS_AT_A_TIME, _LOGITS // of_a_row))
    share = _LOGITS / (of_a_row * len(rows))
    parts: list[Tensor] = []
    chosen: Tensor | None = None
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        raw = model.sample(_some(x, some), samples=samples, seed=seed)
        found = logits_of(model.task, raw, len(some))
        if share < 1.0 and chosen is None:
            cases = found.shape[2]
            order = torch.randperm(cases, generator=torch.Generator().manual_seed(0))
            chosen = order[: max(1, int(share * cases))].to(found.device)
        parts.append(found if chosen is None else found[:, :, chosen])
        progress((start + len(some)) * samples, 0)
    return torch.cat(parts, 1), chosen


def _rows(x: Inputs) -> int:
    if isinstance(x, Tensor):
        return len(x)
    tensors = list(x.values()) if isinstance(x, Mapping) else list(x)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise InputError("expected a tensor, or a tuple or dict of tensors; got none")
    return len(tensors[0])


def _some(x: Inputs, rows: Tensor) -> Inputs:
    if isinstance(x, Tensor):
        return x[rows.to(x.device)]
    if isinstance(x, Mapping):
        return {name: tensor[rows.to(tensor.device)] for name, tensor in x.items()}
    return tuple(tensor[rows.to(tensor.device)] for tensor in x)
