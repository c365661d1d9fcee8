"""The ways to calibrate that there are, and which of them a task has."""

from __future__ import annotations

from typing import Literal

from mcdrop.arguments import one_of
from mcdrop.tasks import AnyTask, Binary, Gaussian, Multilabel, Regression

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
