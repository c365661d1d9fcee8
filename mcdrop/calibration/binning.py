"""Calibration maps without a formula, one for each class: histograms and isotonic regression.

Each class is told from the rest; what the maps give is divided by its sum (Zadrozny & Elkan 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mcdrop.calibration.scaling import columns, labelled, numbers
from mcdrop.errors import InputError
from mcdrop.metrics.functional.reliability import classwise_curves, equal_width


@dataclass(frozen=True, slots=True)
class HistogramBinning:
    """The frequency of a class in each bin of its probability (Zadrozny & Elkan 2001).

    Attributes:
        frequencies: for each class, of each bin of equal width; where no case fell, the middle. Of
            two classes only those of the second (yes): the first is what is left.
    """

    frequencies: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        _shares("frequencies", numbers("frequencies", self.frequencies, 2))
        _classes(self.frequencies)

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
        curve = classwise_curves(labelled(probs, None, labels), bins)
        middle = (torch.arange(bins, device=probs.device).double() + 0.5) / bins
        found = torch.where(curve.count > 0, curve.accuracy, middle)
        return cls(tuple(map(tuple, _of_maps(found.T).T.tolist())))

    def __call__(self, probs: Tensor) -> Tensor:
        """Calibrated probabilities, of the shape and type that came.

        Raises:
            InputError: the number of classes is another.
        """
        given = columns(probs, _classes(self.frequencies))
        table = given.new_tensor(self.frequencies)
        place = equal_width(_of_maps(given).contiguous(), table.shape[1], probs.dtype)
        return _shared_out(table.gather(1, place.T).T, given, probs)


@dataclass(frozen=True, slots=True)
class IsotonicCalibration:
    """A rising step between knots for each class (Zadrozny & Elkan 2002).

    Attributes:
        knots: for each class, probabilities and what becomes of them, both rising. Of two classes
            only those of the second (yes): the first is what is left.
    """

    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        for pair in self.knots:
            found = numbers("knots", pair, 2)  # probabilities above what becomes of them
            if len(found) != 2 or bool((found.diff() < 0.0).any()):
                raise InputError("knots must be rising probabilities and what becomes of them")
            _shares("knots", found[1:])
        _classes(self.knots)

    @classmethod
    def fit(cls, *, probs: Tensor, labels: Tensor) -> IsotonicCalibration:
        """Fit a rising function for each class, by scikit-learn (extra `eval`).

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            labels: integers, `[N]`.

        Raises:
            InputError: an argument does not fit, or scikit-learn is not installed.
        """
        try:
            from sklearn.isotonic import IsotonicRegression
        except ImportError:
            raise InputError(
                "isotonic regression needs scikit-learn: pip install 'mcdrop[eval]'"
            ) from None
        found = labelled(probs, None, labels)
        knots = []
        for given, right in zip(_of_maps(found.probs).T, _of_maps(found.one_hot).T, strict=True):
            fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
                given.cpu().numpy(), right.cpu().numpy()
            )
            knots.append(
                (tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))
            )
        return cls(tuple(knots))

    def __call__(self, probs: Tensor) -> Tensor:
        """Calibrated probabilities, of the shape and type that came; see `HistogramBinning`."""
        given = columns(probs, _classes(self.knots))
        mapped = [
            torch.from_numpy(np.interp(column.cpu().numpy(), *knots))
            for column, knots in zip(_of_maps(given).T, self.knots, strict=True)
        ]
        return _shared_out(torch.stack(mapped, 1).to(given.device), given, probs)


def _of_maps(values: Tensor) -> Tensor:
    """Columns, of `[N, C]`, that have a map: all, but of two classes only the second."""
    return values[:, 1:] if values.shape[1] == 2 else values


def _classes(maps: tuple[object, ...]) -> int:
    """How many classes so many maps are of.

    Raises:
        InputError: they are of no number of classes.
    """
    if len(maps) in (0, 2):
        raise InputError(f"expected one map, of two classes, or three and more; got {len(maps)}")
    return max(2, len(maps))


def _shares(name: str, values: Tensor) -> None:
    if bool(((values < 0.0) | (values > 1.0)).any()):
        raise InputError(f"{name} must lie in [0, 1]")


def _shared_out(mapped: Tensor, given: Tensor, probs: Tensor) -> Tensor:
    """One class less the other, or divided by the sum; as it was where nothing is left."""
    if mapped.shape[1] == 1:
        spread = torch.cat((1.0 - mapped, mapped), 1)
    else:
        total = mapped.sum(1, keepdim=True)
        spread = torch.where(total > 0, mapped / total.clamp_min(1e-300), given)
    return (spread[:, 1] if probs.ndim == 1 else spread).to(probs.dtype)
