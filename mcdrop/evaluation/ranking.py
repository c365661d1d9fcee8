"""What needs the cases in order: a few numbers of each are kept, and curves drawn from them."""

from __future__ import annotations

import torch
from torch import Tensor

from mcdrop.evaluation.document import Line
from mcdrop.metrics.functional.selective import risk_coverage

_PER_ROW = 4096  # of the pixels of an image some tell as much as all
_POINTS = 200


class Kept:
    """Numbers of each case, by name; of a row with many cases 4096 of them, evenly spaced."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, rows: int, **columns: Tensor) -> None:
        """Take in cases.

        Args:
            rows: how many rows they are of.
            columns: by name, the same number of values for each row, in the order of the rows.
        """
        for name, column in columns.items():
            table = column.reshape(rows, -1).double().cpu()
            step = -(-table.shape[1] // _PER_ROW)
            self._parts.setdefault(name, []).append(table[:, ::step])

    def columns(self) -> dict[str, Tensor]:
        """All of them, `[rows, cases of a row]`.

        Rows need not have equally many cases: of those that have more, the last are left out.
        """
        least = min((p.shape[1] for parts in self._parts.values() for p in parts), default=0)
        return {
            name: torch.cat([part[:, :least] for part in parts])
            for name, parts in self._parts.items()
        }


def risk_line(name: str, uncertainty: Tensor, loss: Tensor, *, root: bool = False) -> Line:
    """Risk over coverage at up to 200 points.

    Args:
        name: of the uncertainty.
        uncertainty: any shape.
        loss: of that shape.
        root: whether risk is the root of the mean loss.
    """
    curve = risk_coverage(uncertainty, loss)
    places = torch.linspace(0, len(curve.risk) - 1, _POINTS).round().long().unique()
    risk = curve.risk[places]
    risk = risk.clamp_min(0.0).sqrt() if root else risk
    return Line(name=name, x=tuple(curve.coverage[places].tolist()), y=tuple(risk.tolist()))


def tenths(name: str, x: Tensor, y: Tensor, *, root: bool = False) -> Line:
    """Means of x and y in ten equal parts of the cases, by rising x; root mean squares if asked."""
    flat, order = x.flatten().sort(stable=True)
    other = y.flatten()[order]
    if root:
        flat, other = flat.square(), other.square()
    parts = min(10, len(flat))
    means = [
        torch.stack([part.mean() for part in values.tensor_split(parts)])
        for values in (flat, other)
    ]
    xs, ys = (mean.sqrt() if root else mean for mean in means)
    return Line(name=name, x=tuple(xs.tolist()), y=tuple(ys.tolist()))
