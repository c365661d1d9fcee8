"""Calibration maps without a formula, one for each class: histograms and isotonic regression.

Each class is told from the rest; what the maps give is divided by its sum (Zadrozny & Elkan 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import Cases, cases
from mcdrop.metrics.functional.reliability import classwise_curves, equal_width


@dataclass(frozen=True, slots=True)
class HistogramBinning:
    """The frequency of a class in each bin of its probability (Zadrozny & Elkan 2001).

    Attributes:
        frequencies: for each class, of each bin of equal width; where no case fell, the middle.
    """

    frequencies: Sequence[Sequence[float]]

    @classmethod
    def fit(cls, *, probs: Tensor, labels: Tensor, bins: int = 15) -> HistogramBinning:
        """Count how often each class was right.

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            labels: integers, `[N]`.
            bins: how many.

        Raises:
            InputError: an argument does not fit.
        """
        curve = classwise_curves(cases(probs=probs, labels=labels), bins)
        middle = (torch.arange(bins, device=probs.device).double() + 0.5) / bins
        found = torch.where(curve.count > 0, curve.accuracy, middle)
        return cls(tuple(map(tuple, found.tolist())))

    def __call__(self, probs: Tensor) -> Tensor:
        """Calibrated probabilities, of the shape and type that came.

        Raises:
            InputError: the number of classes is another.
        """
        columns = _columns(probs, len(self.frequencies))
        table = columns.new_tensor(self.frequencies)
        place = equal_width(columns, table.shape[1], probs.dtype)
        return _shared_out(table.gather(1, place.T).T, columns, probs)


@dataclass(frozen=True, slots=True)
class IsotonicCalibration:
    """A rising step between knots for each class (Zadrozny & Elkan 2002).

    Attributes:
        knots: for each class, probabilities and what becomes of them, both rising.
    """

    knots: Sequence[tuple[Sequence[float], Sequence[float]]]

    @classmethod
    def fit(cls, *, probs: Tensor, labels: Tensor) -> IsotonicCalibration:
        """Fit a rising function for each class, by scikit-learn (extra `eval`).

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            labels: integers, `[N]`.

        Raises:
            InputError: an argument does not fit.
        """
        from sklearn.isotonic import IsotonicRegression

        found: Cases = cases(probs=probs, labels=labels)
        knots = []
        for place in range(found.probs.shape[1]):
            fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
                found.probs[:, place].cpu().numpy(), found.one_hot[:, place].cpu().numpy()
            )
            knots.append(
                (tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))
            )
        return cls(tuple(knots))

    def __call__(self, probs: Tensor) -> Tensor:
        """Calibrated probabilities, of the shape and type that came; see `HistogramBinning`."""
        columns = _columns(probs, len(self.knots))
        mapped = [
            torch.from_numpy(np.interp(column.cpu().numpy(), *knots))
            for column, knots in zip(columns.T, self.knots, strict=True)
        ]
        return _shared_out(torch.stack(mapped, 1).to(columns.device), columns, probs)


def _columns(probs: Tensor, classes: int) -> Tensor:
    """Float64 `[N, C]`; of no and yes where there is no axis of classes."""
    wide = probs.detach().double()
    columns = torch.stack(((1.0 - probs.detach()).double(), wide), 1) if probs.ndim == 1 else wide
    if columns.ndim != 2 or columns.shape[1] != classes:
        raise InputError(f"fitted on {classes} classes; got probabilities {list(probs.shape)}")
    return columns


def _shared_out(mapped: Tensor, columns: Tensor, probs: Tensor) -> Tensor:
    """Divided by its sum; as it was where nothing is left."""
    total = mapped.sum(1, keepdim=True)
    spread = torch.where(total > 0, mapped / total.clamp_min(1e-300), columns)
    return (spread[:, 1] if probs.ndim == 1 else spread).to(probs.dtype)
