"""Labelled predictions: probabilities and labels, checked, and laid out one case a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.errors import InputError

SLACK = 1e-2  # rounding of float16 and bfloat16 softmaxes of many classes


@dataclass(frozen=True, slots=True)
class Cases:
    """Predictions and what turned out to be true, float64.

    Attributes:
        probs: `[N, C]`; for two outcomes without a class axis, the two columns of no and yes.
        labels: int64 `[N]`.
        dtype: what the probabilities were given in; float64 for logits.
    """

    probs: Tensor
    labels: Tensor
    dtype: torch.dtype

    @property
    def confidence(self) -> Tensor:
        """Probability of the class that is predicted, `[N]`."""
        return self.probs.amax(1)

    @property
    def correct(self) -> Tensor:
        """Whether that class is the right one, float64 `[N]`; of equal ones the first is taken."""
        return (self.probs.argmax(1) == self.labels).to(self.probs.dtype)

    @property
    def one_hot(self) -> Tensor:
        """One for the right class, float64 `[N, C]`."""
        return torch.nn.functional.one_hot(self.labels, self.probs.shape[1]).to(self.probs.dtype)


def cases(*, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor) -> Cases:
    """Check labelled predictions and lay them out.

    Args:
        probs: probabilities: `[N, C, ...]` of classes, or of yes, of the shape of `labels` (binary,
            or multilabel, where each label is a case).
        logits: instead of `probs`: of classes (softmax over axis 1), or of yes (sigmoid).
        labels: integers: classes `[N, ...]` from 0 to C - 1, or 0 and 1 of the shape of `probs`.

    Raises:
        InputError: shapes, types or values do not fit.
    """
    given = _given(probs, logits)
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels must be integers or booleans; got {_name(labels)}")
    wide = given.detach().to(torch.float64)
    dtype = torch.float64 if probs is None else given.dtype
    if labels.shape == given.shape:
        yes = torch.sigmoid(wide) if probs is None else wide
        no = torch.sigmoid(-wide) if probs is None else 1.0 - wide
        two = torch.stack((no, yes), -1).reshape(-1, 2)
        made = Cases(two, labels.reshape(-1).to(torch.int64), dtype)
    elif given.ndim > 1 and labels.shape == (given.shape[0], *given.shape[2:]):
        spread = torch.softmax(wide, 1) if probs is None else wide
        flat = spread.movedim(1, -1).reshape(-1, spread.shape[1])
        made = Cases(flat, labels.reshape(-1).to(torch.int64), dtype)
    else:
        raise InputError(
            "labels must have the shape of the predictions (binary, multilabel), or that shape "
            f"without axis 1 (classes); got labels {list(labels.shape)} for predictions "
            f"{list(given.shape)}"
        )
    _check(made, whole=labels.shape != given.shape)
    return made


def _given(probs: Tensor | None, logits: Tensor | None) -> Tensor:
    if (probs is None) == (logits is None):
        raise InputError("pass either probs=… or logits=…: values do not tell them apart")
    given = logits if probs is None else probs
    assert given is not None
    if not given.is_floating_point():
        raise InputError(f"probs and logits must be floating point; got {_name(given)}")
    return given


def _check(made: Cases, *, whole: bool) -> None:
    """Values; by a few sums, each looked at closer only if it is wrong."""
    probs, labels, classes = made.probs, made.labels, made.probs.shape[1]
    if len(labels) == 0:
        raise InputError("expected at least one labelled prediction; got none")
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        raise InputError(
            f"labels must be from 0 to {classes - 1}; got {int(labels[outside][0])} in "
            f"{int(outside.sum())} of {len(labels)} cases"
        )
    bad = ~((probs >= 0.0) & (probs <= 1.0 + SLACK)).all(1)
    if whole:
        bad |= (probs.sum(1) - 1.0).abs() > SLACK
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        sums = " and each row to sum to 1" if whole else ""
        raise InputError(
            f"expected probabilities in [0, 1]{sums}; case {first} has {probs[first].tolist()[:8]}"
            f" ({int(bad.sum())} such cases). Scores before a softmax are logits=…"
        )


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
