"""How well uncertainties tell rows from those of other data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mcdrop.evaluation import weighted
from mcdrop.evaluation.document import Detection, Figure, Histogram
from mcdrop.evaluation.measures import Measure, Ranked, ranked_figures
from mcdrop.evaluation.weighted import OfWeights
from mcdrop.metrics.functional import detection
from mcdrop.prediction import ClassificationPrediction, Prediction

_PARTS = 30
_Of = Callable[[Tensor, Tensor], Tensor]
_Again = Callable[[Tensor, Tensor], OfWeights]
_KINDS: tuple[tuple[str, str, str, str, _Of, _Again], ...] = (
    (
        "detection_auroc",
        "AUROC",
        "higher",
        "chance that a row of the other data is more uncertain; 0.5 tells nothing",
        detection.detection_auroc,
        weighted.auroc,
    ),
    (
        "detection_average_precision",
        "Average precision",
        "higher",
        "area under precision and recall, the other data as positives",
        detection.detection_average_precision,
        weighted.average_precision,
    ),
    (
        "false_positive_rate",
        "FPR at 95% TPR",
        "lower",
        "share of our rows that is flagged where 95% of the other ones are",
        detection.false_positive_rate,
        weighted.false_positive_rate,
    ),
)


class Uncertainties:
    """Uncertainties of rows, by name; of rows with many cases the mean over them."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, prediction: Prediction) -> None:
        """Take in rows."""
        if isinstance(prediction, ClassificationPrediction):
            found = {
                "entropy": prediction.entropy,
                "mutual_information": prediction.mutual_information,
            }
        else:
            found = {"variance": prediction.variance}
            if hasattr(prediction, "epistemic"):
                found["epistemic"] = prediction.epistemic
        for name, values in found.items():
            rows = values.reshape(len(values), -1).double().mean(1).cpu()
            self._parts.setdefault(name, []).append(rows)

    def columns(self) -> dict[str, Tensor]:
        """All rows, `[N]` each."""
        return {name: torch.cat(parts) for name, parts in self._parts.items()}


def detect(ours: Uncertainties, others: Uncertainties, source: str) -> Detection:
    """Compare two sets of rows.

    Args:
        ours: of the data that the model is for.
        others: of the other data.
        source: name of the other data.
    """
    inside, outside = ours.columns(), others.columns()
    figures: list[Figure] = []
    for name, values in inside.items():
        both = torch.cat((values, outside[name]))[:, None]
        side = torch.cat((torch.zeros(len(values)), torch.ones(len(outside[name]))))[:, None]
        measures = [
            Ranked(
                Measure(
                    f"{kind}_{name}",
                    f"{title}, {name.replace('_', ' ')}",
                    "detection",
                    "higher" if better == "higher" else "lower",
                    meaning,
                    0.0,
                    1.0,
                ),
                _apart(of),
                again,
                (name, "side"),
                "side",
                fixed=True,
                both=True,
            )
            for kind, title, better, meaning, of, again in _KINDS
        ]
        figures += ranked_figures({name: both, "side": side}, measures)
    first = next(iter(inside))
    return Detection(
        source=source,
        rows=len(outside[first]),
        figures=tuple(figures),
        uncertainty=_histogram(inside[first], outside[first]),
    )


def _apart(of: _Of) -> _Of:
    def figure(values: Tensor, side: Tensor) -> Tensor:
        inside, outside = values[side == 0], values[side == 1]
        if len(inside) == 0 or len(outside) == 0:
            return torch.tensor(torch.nan)
        return of(inside, outside)

    return figure


def _histogram(inside: Tensor, outside: Tensor) -> Histogram:
    both = torch.cat((inside, outside))
    low, high = float(both.amin()), float(both.amax())
    if high <= low:
        high = low + 1.0
    edges = torch.linspace(low, high, _PARTS + 1, dtype=torch.float64)
    groups = {"this data": inside, "other data": outside}
    return Histogram(
        edges=tuple(edges.tolist()),
        shares={
            name: tuple((torch.histc(v, _PARTS, low, high) / len(v)).tolist())
            for name, v in groups.items()
        },
        counts={name: len(v) for name, v in groups.items()},
    )
