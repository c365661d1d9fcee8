"""Example requests: one real test row, as the server's predict route takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcdrop.demo import data
from mcdrop.errors import InputError

REQUESTS = ("digits", "diabetes", "noise")


@dataclass(frozen=True, slots=True)
class Example:
    """A request body and, in words, what a good answer would be."""

    body: dict[str, Any]
    truth: str


def request(name: str, row: int = 0) -> Example:
    """Body of `POST /v1/models/<name>/predict` for one row of the test part.

    Args:
        name: `"digits"`, `"diabetes"`, or `"noise"`: an image of nothing, for the digits model.
        row: which test row; for noise, its seed.

    Raises:
        InputError: no such name, or no such row.

    Example:
        >>> example = request("digits", row=3)
        >>> sorted(example.body)
        ['inputs']
    """
    if name not in REQUESTS:
        raise InputError(f"an example request is one of {', '.join(REQUESTS)}; got {name!r}")
    if row < 0:
        raise InputError(f"a row is counted from 0; got {row}")
    if name == "noise":
        image = np.random.default_rng(row).integers(0, 17, size=(1, 1, 8, 8)) / 16.0
        return Example({"inputs": image.tolist()}, "an image of noise: no digit at all")
    split = data.digits() if name == "digits" else data.diabetes()
    inputs, targets = split.test
    if row >= len(inputs):
        raise InputError(f"{name} has {len(inputs)} test rows, counted from 0; got row {row}")
    values = inputs[row : row + 1].astype(np.float64).round(4).tolist()
    target = np.atleast_1d(targets[row])[0]
    truth = (
        f"a handwritten {target}" if name == "digits" else f"progression after a year: {target:g}"
    )
    return Example({"inputs": values}, f"test row {row}, {truth}")
