"""What is asked: one row of a model, with its options, and the bytes that ask it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.wire import encode


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One row and how it is to be predicted; `None` leaves an option out of the request."""

    model: str
    row: Any
    samples: int | None = None
    seed: int | None = None
    tolerance: float | None = None

    def encode(self, path: str = "") -> bytes:
        """The HTTP request, to mcdrop's server or to another path of another server."""
        options = {"samples": self.samples, "seed": self.seed, "tolerance": self.tolerance}
        body = {"inputs": [self.row]} | {
            name: value for name, value in options.items() if value is not None
        }
        path = path or f"/v1/models/{self.model}/predict"
        return encode(path, json.dumps(body, separators=(",", ":")).encode())


def ask(
    model: str, rows: Iterable[Any], samples: int | None = None, seed: int | None = None
) -> tuple[Question, ...]:
    """A question for each row."""
    return tuple(Question(model, row, samples, seed) for row in rows)


def encoded(questions: Iterable[Question], path: str = "") -> tuple[bytes, ...]:
    """The requests of a stream."""
    return tuple(question.encode(path) for question in questions)
