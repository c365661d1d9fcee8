"""A data set in the layout of the paper's experiments: `NAME/data/` with a table and its splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]


class LayoutError(ValueError):
    """A folder does not have the layout; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class UciSet:
    """A table, its splits, and the grid that the paper searched.

    Attributes:
        name: of the folder.
        x: features, `[N, d]`, as they are in the file.
        y: targets, `[N]`, likewise.
        splits: rows of training and test, in the files' order.
        hidden: units of the hidden layer.
        epochs: of training; the paper trained 100 times as many.
        rates: drop rates of the grid.
        taus: noise precisions of the grid, in units of `1 / y²`.
    """

    name: str
    x: Numbers
    y: Numbers
    splits: tuple[tuple[Rows, Rows], ...]
    hidden: int
    epochs: int
    rates: tuple[float, ...]
    taus: tuple[float, ...]


def read(folder: Path, splits: int | None = None) -> UciSet:
    """Read a set.

    Args:
        folder: the set's, with `data/` in it.
        splits: how many to read; all by default.

    Raises:
        LayoutError: a file is missing, does not hold numbers, or names rows that are not there.
    """
    data = folder / "data"
    table = _numbers(data / "data.txt", ndmin=2)
    columns = table.shape[1]
    features = _places(data / "index_features.txt", columns, "columns")
    target = _places(data / "index_target.txt", columns, "columns")
    if len(target) != 1:
        raise LayoutError(f"{data / 'index_target.txt'}: expected one column; got {len(target)}")
    known = int(_numbers(data / "n_splits.txt")[0])
    wanted = known if splits is None else min(splits, known)
    return UciSet(
        name=folder.name,
        x=table[:, features],
        y=table[:, target[0]],
        splits=tuple(_split(data, number, len(table)) for number in range(wanted)),
        hidden=int(_numbers(data / "n_hidden.txt")[0]),
        epochs=int(_numbers(data / "n_epochs.txt")[0]),
        rates=tuple(_numbers(data / "dropout_rates.txt").tolist()),
        taus=tuple(_numbers(data / "tau_values.txt").tolist()),
    )


def _split(data: Path, number: int, rows: int) -> tuple[Rows, Rows]:
    train = _places(data / f"index_train_{number}.txt", rows, "rows")
    test = _places(data / f"index_test_{number}.txt", rows, "rows")
    if np.intersect1d(train, test).size:
        raise LayoutError(f"{data}: split {number} has rows in both training and test")
    return train, test


def _places(path: Path, limit: int, what: str) -> Rows:
    found = _numbers(path)
    places: Rows = found.astype(np.int64)
    if not len(places) or (places != found).any() or places.min() < 0 or places.max() >= limit:
        raise LayoutError(f"{path}: expected numbers of {what}, 0 to {limit - 1}")
    return places


def _numbers(path: Path, **options: Any) -> Numbers:
    try:
        return np.loadtxt(path, dtype=np.float64, **({"ndmin": 1} | options))
    except FileNotFoundError:
        raise LayoutError(f"{path} is missing; the layout is that of the paper's folders") from None
    except ValueError as error:
        raise LayoutError(f"{path}: {error}") from None
