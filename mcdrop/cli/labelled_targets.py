"""Targets of labelled rows: classes, yes or no, or numbers, as the model's task wants them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mcdrop.cli.labelled_source import Values
from mcdrop.cli.labelled_values import finite, integers, whole
from mcdrop.errors import InputError
from mcdrop.program.manifest import Manifest
from mcdrop.tasks import Binary, Classification, Gaussian, Multilabel

WORDS = 10_000
_FLAGS = {"false": 0, "true": 1}
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Targets:
    """How a model's targets are read.

    A class is an index, 0 to C-1, or a name of the manifest's. A whole number that is an index is
    one, whatever the classes are called; anything else is looked up among the names. Where that
    would give one number two meanings (classes called 1, 2, 3: is 2 the index, or the second
    name?), numbers are indices and nothing else. Yes and no are 1 and 0, or true and false.

    Attributes:
        shape: of a row's target, `None` for an axis that is free.
        count: number of classes, `None` if it is not known; 2 for yes and no.
        words: labels by what they are written as; empty for numbers.
        dtype: float type of numbers, `None` for labels.
        wanted: what a target must be, for error messages.
    """

    shape: tuple[int | None, ...]
    count: int | None
    words: Mapping[str, int] = field(repr=False)
    dtype: torch.dtype | None
    wanted: str

    def read(
        self, columns: Sequence[Values], names: Sequence[str], faults: dict[int, str]
    ) -> Tensor:
        """int64 labels or floats: `[n, ...]` of one column, `[n, T]` of several.

        Rows with a target that is none go into `faults`, unless they are there already.
        """
        parts = [
            self._column(values, _where(values, name), faults)
            for values, name in zip(columns, names, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts, dim=1)

    def check_shape(self, path: Path, shape: Sequence[int]) -> None:
        """Raise unless targets of this shape of a row go with the model's predictions.

        Raises:
            InputError: they do not; axes of size 1 make no difference.
        """
        if None in self.shape:  # told when a prediction is there
            return
        if [n for n in shape if n != 1] != [n for n in self.shape if n != 1]:
            expected = ", ".join(["B", *map(str, self.shape)])
            got = ", ".join(["B", *map(str, shape)])
            raise InputError(f"{path}: expected targets [{expected}] for this model; got [{got}]")

    def _column(
        self, values: Values, where: Callable[[int], str], faults: dict[int, str]
    ) -> Tensor:
        if values.dtype.kind in "OUS":
            return self._written(values, where, faults)
        if self.dtype is not None:
            return finite(values, self.dtype, where, faults)
        good = whole(values, 0, _MOST if self.count is None else self.count - 1)
        labels = integers(values, good)
        if good.all():
            return labels
        for flat in (~good).reshape(-1).nonzero()[0].tolist():  # the name of a class, perhaps
            value = values.reshape(-1)[flat]
            named = np.isfinite(value) and value == np.floor(value)
            label = self.words.get(str(int(value))) if named else None
            if label is None:
                self._fault(flat, value, values, where, faults)
            else:
                labels.view(-1)[flat] = label
        return labels

    def _written(
        self, values: Values, where: Callable[[int], str], faults: dict[int, str]
    ) -> Tensor:
        cells = values.reshape(-1).tolist()
        if self.dtype is not None:
            return self._numbers(values, cells, where, faults)
        words = self.words
        found = np.array([words.get(cell, -1) for cell in cells], dtype=np.int64)
        for flat in (found < 0).nonzero()[0].tolist():
            label = self._label(cells[flat])
            if label is None:
                self._fault(flat, cells[flat], values, where, faults)
                label = 0
            found[flat] = label
        return torch.from_numpy(found.reshape(values.shape))

    def _numbers(
        self,
        values: Values,
        cells: list[str | bytes | None],
        where: Callable[[int], str],
        faults: dict[int, str],
    ) -> Tensor:
        assert self.dtype is not None, "labels are read elsewhere"
        try:
            made = np.array(cells, dtype=np.float64)
        except (ValueError, TypeError):
            made = np.zeros(len(cells))
            for flat, cell in enumerate(cells):
                try:
                    made[flat] = np.nan if cell is None else float(cell)
                except ValueError:
                    self._fault(flat, cell, values, where, faults)
        for flat in [flat for flat, cell in enumerate(cells) if cell is None]:
            self._fault(flat, None, values, where, faults)
        return finite(made.reshape(values.shape), self.dtype, where, faults)

    def _label(self, cell: str | bytes | None) -> int | None:
        if cell is None:
            return None
        text = (cell.decode(errors="replace") if isinstance(cell, bytes) else cell).strip()
        if text not in self.words and text.casefold() in _FLAGS:
            text = text.casefold()
        try:
            number = float(text)
        except ValueError:
            return self.words.get(text)
        if not number.is_integer():
            return self.words.get(text)
        index = int(number)
        within = 0 <= index <= (_MOST if self.count is None else self.count - 1)
        return index if within else self.words.get(text, self.words.get(str(index)))

    def _fault(
        self,
        flat: int,
        value: object,
        values: Values,
        where: Callable[[int], str],
        faults: dict[int, str],
    ) -> None:
        row, at = divmod(flat, max(1, values.size // len(values)))
        what = "missing" if value is None else f"{_shown(value)}, {self.wanted}"
        faults.setdefault(row, f"{where(at)} is {what}")


def targets_of(manifest: Manifest) -> Targets:
    """How the targets of a model are read."""
    task = manifest.task
    shape = _shape(manifest)
    if isinstance(task, Classification):
        count = manifest.class_count() or (len(manifest.classes) if manifest.classes else None)
        words, wanted = _classes(manifest.classes or (), count)
        return Targets(shape, count, words, None, wanted)
    if isinstance(task, Binary | Multilabel):
        names = manifest.classes if isinstance(task, Binary) else None
        words, _ = _classes(names if names and len(names) == 2 else (), 2)
        return Targets(shape, 2, {**_FLAGS, **words}, None, "not 0 or 1")
    double = manifest.entry().dtype == "float64"
    dtype = torch.float64 if double else torch.float32
    return Targets(shape, None, {}, dtype, "not a number")


def _shape(manifest: Manifest) -> tuple[int | None, ...]:
    task, shape = manifest.task, list(manifest.entry().shape)
    if isinstance(task, Classification):
        del shape[task.dim % len(shape)]
    elif isinstance(task, Gaussian) and task.log_variance is None and shape[-1] is not None:
        shape[-1] //= 2
    return tuple(shape[1:])


def _classes(names: Sequence[str], count: int | None) -> tuple[dict[str, int], str]:
    """Labels by how they are written, and what to expect of one."""
    uses = Counter(name.strip() for name in names)
    words = {name.strip(): label for label, name in enumerate(names) if uses[name.strip()] == 1}
    numbers = {name: int(name) for name in words if name.isascii() and name.isdecimal()}
    within = count if count is not None else _MOST
    two = any(number < within and number != words[name] for name, number in numbers.items())
    if two:
        words = {name: label for name, label in words.items() if name not in numbers}
    last = "" if count is None else f" to {count - 1}"
    wanted = f"not a class: expected 0{last or ' or more'}"
    example = next((name for name in words if name not in numbers), None)
    if example is not None:
        wanted += f", or a name such as {example!r}"
    if two:
        wanted += " (classes have numbers for names here, and a number is taken as an index)"
    return words | {str(label): label for label in range(min(count or 0, WORDS))}, wanted


def _where(values: Values, name: str) -> Callable[[int], str]:
    def where(at: int) -> str:
        if values.ndim < 2:
            return f"target {name!r}"
        return f"target {name!r} at {list(map(int, np.unravel_index(at, values.shape[1:])))}"

    return where


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return repr(value.strip()) if isinstance(value, str) else str(value)
