"""A native prediction's question and its answer, whatever they travel in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mcdrop.tasks import Classification, Gaussian, Regression
from service.batching.ask import Timed
from service.errors import InvalidRequestError
from service.ids import new_id
from service.inference import Array, Query, Runtime, make_query
from service.loaded import Loaded
from service.schemas import PredictRequest


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What was asked of a model, checked.

    Attributes:
        loaded: the model.
        query: what the scheduler is asked.
        chosen: names of the fields to answer with, in order.
        abstain_above: uncertainty above which no answer is to be given.
        id: names the prediction.
    """

    loaded: Loaded
    query: Query
    chosen: tuple[str, ...]
    abstain_above: float | None
    id: str

    def answer(self, timed: Timed[dict[str, Array]]) -> dict[str, Any]:
        """The answer as a `PredictResponse` describes it, arrays in it."""
        loaded, fields = self.loaded, dict[str, Any](timed.value)
        if "label" in self.chosen:
            fields["label"] = _labels(loaded, timed.value["mean"])
        if "set" in self.chosen:
            fields["set"] = _sets(loaded, timed.value["set"])
        answer = {
            "id": self.id,
            "model": loaded.name,
            "version": loaded.version,
            "samples": fields["samples"],
            "outputs": {name: fields[name] for name in self.chosen},
            "timing": {
                "queue_ms": round(timed.queued * 1e3, 3),
                "compute_ms": round(timed.computed * 1e3, 3),
            },
        }
        if self.abstain_above is not None:
            answer["abstention"] = _abstention(loaded, self.abstain_above)
        return answer


def ask_question(
    run: Runtime, loaded: Loaded, asked: PredictRequest, inputs: Mapping[str, Tensor]
) -> Question:
    """Hold a request against the model and the server's limits.

    Raises:
        InvalidRequestError: it does not fit.
    """
    chosen = _chosen_outputs(loaded, asked)
    query = make_query(
        run,
        loaded,
        dict(inputs),
        samples=asked.samples,
        seed=asked.seed,
        interval=asked.interval,
        sets=asked.sets,
        abstain_above=asked.abstain_above,
        tolerance=asked.tolerance,
        deadline_ms=asked.deadline_ms,
    )
    return Question(loaded, query, tuple(chosen), asked.abstain_above, new_id())


def _chosen_outputs(loaded: Loaded, asked: PredictRequest) -> list[str]:
    """Names of the fields to answer with, in the order of the prediction's own."""
    task = loaded.manifest.task
    possible = [field.name for field in loaded.fields if field.name != "samples"]
    if isinstance(task, Classification) and loaded.manifest.classes:
        possible.append("label")
    regression = isinstance(task, Regression | Gaussian)
    extra = ["lower", "upper"] if asked.interval is not None else []
    if extra and not regression:
        raise InvalidRequestError(
            f"interval is for regression; model {loaded.name!r} does {task.kind}: leave it out"
        )
    if asked.sets is not None:
        calibration = loaded.predictor.calibration
        if calibration is None or calibration.sets is None:
            raise InvalidRequestError(
                f"model {loaded.name!r} has no conformal sets: leave sets out, or fit them with "
                "`mcdrop calibrate`"
            )
        extra.append("set")
    if asked.abstain_above is not None:
        extra.append("abstain")
    if asked.outputs is None:
        return possible + extra
    unknown = sorted(set(asked.outputs) - {*possible, *extra})
    for names, hint in _NEEDS:
        if names & set(unknown) and ("lower" in names) == regression:
            raise InvalidRequestError(hint)
    if unknown:
        raise InvalidRequestError(
            f"model {loaded.name!r} has no output {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(possible + extra)}"
        )
    return [name for name in possible + extra if name in asked.outputs]


_NEEDS = (
    (
        {"lower", "upper"},
        "the outputs 'lower' and 'upper' need an interval: send its level, like \"interval\": 0.9",
    ),
    ({"set"}, "the output 'set' needs a level: send it, for instance \"sets\": 0.9"),
)


def _sets(loaded: Loaded, held: Array) -> list[Any]:
    """Names (or numbers) of the classes in each set, nested as the cases are."""
    task, classes = loaded.manifest.task, loaded.manifest.classes
    assert isinstance(task, Classification)
    last = np.moveaxis(held, task.dim, -1)
    names: Sequence[str | int] = classes or range(last.shape[-1])

    def nested(part: Array) -> list[Any]:
        if part.ndim == 1:
            return [names[int(place)] for place in np.flatnonzero(part)]
        return [nested(inner) for inner in part]

    return nested(last)


def _abstention(loaded: Loaded, above: float) -> dict[str, Any]:
    calibration = loaded.predictor.calibration
    numbers = isinstance(loaded.manifest.task, Regression | Gaussian)
    note: dict[str, Any] = {
        "uncertainty": "std" if numbers else "entropy",
        "abstain_above": above,
        "coverage": None,
        "risk": None,
    }
    if calibration is not None and calibration.selection is not None:
        policy = calibration.abstention(above)
        note |= {"coverage": policy.coverage, "risk": policy.risk}
    return note


def _labels(loaded: Loaded, mean: Array) -> list[Any]:
    task, classes = loaded.manifest.task, loaded.manifest.classes
    assert isinstance(task, Classification)
    assert classes is not None
    labels: list[Any] = np.array(classes, object)[mean.argmax(axis=task.dim)].tolist()
    return labels
