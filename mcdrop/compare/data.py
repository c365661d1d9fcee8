"""The data that techniques are compared on: what scikit-learn carries, cut into folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mcdrop.errors import McdropError
from mcdrop.tasks import AnyTask, Classification, Gaussian

DataName = Literal["digits", "diabetes"]
DATA: tuple[DataName, ...] = ("digits", "diabetes")
_MISSING = "the comparison needs scikit-learn, which carries its data: pip install 'mcdrop[eval]'"
_FAR = 3.0  # standard deviations that outside rows are moved by
_LOOKED_AT = 0.2  # share of the rows to train on that says when to stop


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to train on, rows that say when to stop, rows held out, and rows from outside.

    Attributes:
        train: inputs `[N, H, W]` and targets: classes `[N]`, or numbers `[N, 1]` in units of their
            standard deviation.
        validation: the same, a fifth of what is not held out: the epoch is chosen by them.
        test: the same, held out.
        outside: inputs that are like none of them: digits with their pixels shuffled, or patients
            with measurements moved by three standard deviations, each up or down.
        scale: of the targets, in their own units.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    outside: Tensor
    scale: float


def task_of(name: DataName) -> AnyTask:
    """What a net's output means: logits of ten classes, or a mean and a log-variance."""
    return Classification() if name == "digits" else Gaussian()


def folds(name: DataName, count: int, seed: int = 0, training: int = 0) -> Iterator[Fold]:
    """Every row is held out once; classes are spread evenly.

    Args:
        name: of the data.
        count: of folds.
        seed: of the cut, and of what is shuffled.
        training: which one, from 0: each has validation rows of its own, and the same held out.

    Raises:
        McdropError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
        from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
    except ImportError as error:
        raise McdropError(_MISSING) from error
    generator = torch.Generator().manual_seed(seed)
    if name == "digits":
        bunch = datasets.load_digits()
        x = torch.from_numpy(bunch.images).float() / 16.0
        y = torch.from_numpy(bunch.target).long()
        cut = StratifiedKFold(count, shuffle=True, random_state=seed).split(bunch.data, y)
    else:
        bunch = datasets.load_diabetes(scaled=False)
        x, y = torch.from_numpy(bunch.data).float(), torch.from_numpy(bunch.target).float()[:, None]
        cut = KFold(count, shuffle=True, random_state=seed).split(bunch.data)
    for kept, held in cut:
        parts = train_test_split(
            kept,
            test_size=_LOOKED_AT,
            random_state=seed + training,
            stratify=y[kept].numpy() if name == "digits" else None,
        )
        train, looked, test = (torch.from_numpy(rows) for rows in (*parts, held))
        if name == "digits":
            shuffled = torch.rand(len(held), 64, generator=generator).argsort(1)
            outside = x[test].flatten(1).gather(1, shuffled).view_as(x[test])
            cuts = [(x[rows], y[rows]) for rows in (train, looked, test)]
            yield Fold(cuts[0], cuts[1], cuts[2], outside, 1.0)
        else:
            yield _standardised(x, y, (train, looked, test), generator)


def _standardised(
    x: Tensor, y: Tensor, parts: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
) -> Fold:
    train, _, test = parts
    centre, spread = x[train].mean(0), x[train].std(0)
    middle, scale = y[train].mean(), y[train].std()
    inputs, targets = ((x - centre) / spread)[:, None], (y - middle) / scale
    signs = torch.randint(2, (len(test), 1, x.shape[1]), generator=generator) * 2.0 - 1.0
    cuts = [(inputs[rows], targets[rows]) for rows in parts]
    return Fold(cuts[0], cuts[1], cuts[2], inputs[test] + _FAR * signs, float(scale))
