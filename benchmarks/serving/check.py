"""Whether answers are right: against the library's own prediction of the row, off the clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mcdrop
from benchmarks.record import Record
from benchmarks.serving.load import Outcome
from benchmarks.serving.questions import Question

BOUND = 1e-5  # on the mean: absolute, or relative to what is larger than 1
_REFERENCE = 2000  # samples for the truth that another server's answers are held against
_TOGETHER = 32  # rows in a call of the library
Mean = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Wrong:
    """An answer that is not the library's."""

    outcome: Outcome
    reason: str


class Library:
    """The artifacts of a models folder, and what they predict for a question."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._predictors: dict[tuple[str, int], mcdrop.MCDropout] = {}
        self._means: dict[tuple[int, int, int | None], Mean] = {}
        self._asked: list[Question] = []  # kept, so that no other gets the same `id`

    def mean(self, question: Question, version: int = 1, samples: int | None = None) -> Mean:
        """The mean of a question's only row; with `samples`, with so many and no tolerance."""
        key = (id(question), version, samples)
        if key not in self._means:
            predictor = self.predictor(question.model, version)
            prediction = predictor.predict(
                _tensor([question.row]),
                samples=samples or question.samples,
                seed=question.seed,
                tolerance=None if samples else question.tolerance,
            )
            self._asked.append(question)
            self._means[key] = prediction.mean[0].double().numpy()
        return self._means[key]

    def prepare(self, questions: Iterable[Question], version: int = 1) -> None:
        """Have the means of many questions at hand; those with the same options cost less together.

        A row's answer is the same in any batch, and the server's batches are others than these.
        """
        alike: dict[tuple[object, ...], list[Question]] = {}
        for question in questions:
            if (id(question), version, None) not in self._means:
                options = question.model, question.samples, question.seed, question.tolerance
                alike.setdefault(options, []).append(question)
        for (model, *_), group in alike.items():
            for begin in range(0, len(group), _TOGETHER):
                self._predict(
                    self.predictor(str(model), version), version, group[begin:][:_TOGETHER]
                )

    def _predict(
        self, predictor: mcdrop.MCDropout, version: int, group: Sequence[Question]
    ) -> None:
        first = group[0]
        prediction = predictor.predict(
            _tensor(question.row for question in group),
            samples=first.samples,
            seed=first.seed,
            tolerance=first.tolerance,
        )
        self._asked += group
        for question, mean in zip(group, prediction.mean.double().numpy(), strict=True):
            self._means[id(question), version, None] = mean

    def predictor(self, model: str, version: int = 1) -> mcdrop.MCDropout:
        """An artifact, loaded once."""
        key = (model, version)
        if key not in self._predictors:
            self._predictors[key] = mcdrop.load(self._root / model / str(version))
        return self._predictors[key]


def wrong(
    outcomes: Iterable[Outcome], questions: Sequence[Question], library: Library
) -> list[Wrong]:
    """Every answer with status 200 whose mean is not the library's to within `BOUND`.

    Args:
        outcomes: of one stream.
        questions: of that stream.
        library: with the artifacts that were served.
    """
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    library.prepare(questions[number] for number in sorted({o.number for o in answered}))
    found = []
    for outcome in answered:
        reason = _reason(outcome.body, questions[outcome.number], library)
        if reason:
            found.append(Wrong(outcome, reason))
    return found


def _reason(body: bytes, question: Question, library: Library) -> str:
    """Why an answer is wrong, empty if it is right."""
    try:
        answer = json.loads(body)
        model, version = answer["model"], answer["version"]
        used = [int(count) for count in answer["samples"]]
        mean = np.array(answer["outputs"]["mean"], float)
    except (ValueError, KeyError, TypeError) as error:
        return f"no prediction: {type(error).__name__}: {error}"
    if model != question.model or len(used) != 1:
        return (
            f"an answer of model {model!r} with {len(used)} rows to one row of {question.model!r}"
        )
    expected = library.mean(question, version)
    if question.tolerance is not None and _differs(mean[:1], expected):
        # where the tolerance is met by a hair, rounding decides which block is the last
        expected = library.mean(question, version, used[0])
    return _differs(mean[:1], expected)


def _differs(mean: Mean, expected: Mean) -> str:
    if mean.shape != (1, *expected.shape):
        return f"a mean of shape {mean.shape}, not {(1, *expected.shape)}"
    allowed = BOUND * np.maximum(1.0, np.abs(expected))
    off = float((np.abs(mean[0] - expected) / allowed).max())
    return "" if off <= 1 else f"the mean is off by {off:.3g} times the bound of {BOUND:g}"


def deviation(
    outcomes: Iterable[Outcome], questions: Sequence[Question], library: Library, samples: int
) -> Record:
    """How far another server's means lie from the truth, in their Monte Carlo standard errors.

    About 1 (root mean square) if it samples the same model independently. Outputs that hardly vary
    between samples are left out.
    """
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    truths = _truths({outcome.number for outcome in answered}, questions, library)
    scores: list[Mean] = []
    for outcome in answered:
        mean, variance = truths[outcome.number]
        found = np.array(json.loads(outcome.body)["outputs"]["mean"][0], float)
        varies = variance > 1e-4
        scores.append((found - mean)[varies] ** 2 / (variance[varies] / samples))
    if not scores:
        return {"answers": 0, "rms_standard_errors": None}
    together = np.concatenate(scores)
    rms = float(np.sqrt(together.mean())) if len(together) else None
    return {"answers": len(scores), "rms_standard_errors": rms}


def _truths(
    numbers: Iterable[int], questions: Sequence[Question], library: Library
) -> dict[int, tuple[Mean, Mean]]:
    """Mean and variance of samples of each question, by its number."""
    found: dict[int, tuple[Mean, Mean]] = {}
    ordered = sorted(numbers)
    for begin in range(0, len(ordered), _TOGETHER):
        part = ordered[begin : begin + _TOGETHER]
        predictor = library.predictor(questions[part[0]].model)
        rows = _tensor(questions[number].row for number in part)
        prediction = predictor.predict(rows, samples=_REFERENCE)
        means, variances = prediction.mean.double().numpy(), prediction.variance.double().numpy()
        found |= dict(zip(part, zip(means, variances, strict=True), strict=True))
    return found


def closest(questions: Sequence[Question], library: Library) -> float:
    """The smallest difference between the means of two rows: a swapped answer is off by as much."""
    library.prepare(questions)
    means = np.stack([library.mean(question) for question in questions])
    apart = np.abs(means[:, None] - means[None]).max(-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min())


def _tensor(rows: Iterable[Any]) -> torch.Tensor:
    return torch.tensor(list(rows), dtype=torch.float32)
