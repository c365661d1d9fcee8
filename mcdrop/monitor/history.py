"""What was recorded, epoch by epoch, within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mcdrop.errors import InputError

CAPACITY = 1000
MOST_NAMES = 500
_BESTS = 64  # that are remembered
WATCHED = ("validation_loss", "val_loss")  # whose best is kept


class Epoch(BaseModel):
    """What was recorded of one epoch.

    Attributes:
        epoch: its number.
        values: losses and metrics by name.
        rates: of layers, by their names.
        calibration: `gap` and `ece`, `confidence` and `accuracy`, or `gap`, `coverage` and `level`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    epoch: int = Field(ge=0)
    values: dict[str, float] = {}
    rates: dict[str, float] = {}
    calibration: dict[str, float] = {}

    def merged(self, later: Epoch) -> Epoch:
        """With what was recorded of the same epoch afterwards."""
        return Epoch(
            epoch=self.epoch,
            values=self.values | later.values,
            rates=self.rates | later.rates,
            calibration=later.calibration or self.calibration,
        )


class Best(BaseModel):
    """The smallest validation loss, and when it was."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    value: float
    epoch: int


class Document(BaseModel):
    """A history as it is saved."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    format: Literal["mcdrop.monitor/1"] = "mcdrop.monitor/1"
    capacity: int = Field(ge=2)
    seen: int = Field(ge=0)
    stride: int = Field(ge=1)
    best: Best | None = None
    not_finite: dict[str, int] = {}
    epochs: tuple[Epoch, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.epochs) <= min(self.capacity, self.seen):
            raise ValueError("more epochs than capacity, or than were seen")
        if any(a.epoch >= b.epoch for a, b in pairwise(self.epochs)):
            raise ValueError("epochs do not follow each other")
        return self


class History:
    """Epochs in order; at most `capacity` of them, whatever the training's length.

    Where there were more, every second one is left out, and from then on only every second one
    stays: the curves keep their whole length, at half the resolution. The first and the last epoch
    are always there, as are the best validation loss and where a value was first NaN or infinite.

    Attributes:
        epochs: those kept.
        best: the smallest `validation_loss` (or `val_loss`, whichever came first); None before one
            that is a number.
        not_finite: by name, the first epoch in which a value was NaN or infinite.

    Example:
        >>> history = History(capacity=4)
        >>> for epoch in range(10):
        ...     history.add(Epoch(epoch=epoch))
        >>> [each.epoch for each in history.epochs]
        [0, 4, 8, 9]
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.epochs: list[Epoch] = []
        self.not_finite: dict[str, int] = {}
        self._names: dict[str, None] = {}
        self._bests: list[Best] = []  # each better than the one before: what a rewind goes back to
        self._seen = 0
        self._stride = 1

    @property
    def best(self) -> Best | None:
        """The smallest validation loss so far."""
        return self._bests[-1] if self._bests else None

    def add(self, epoch: Epoch) -> None:
        """Record an epoch, or more of the last one.

        Raises:
            InputError: it comes before the last one, or there are too many names.
        """
        last = self.epochs[-1] if self.epochs else None
        if last is not None and epoch.epoch < last.epoch:
            raise InputError(
                f"epochs are logged in order; got epoch {epoch.epoch} after {last.epoch}. To train "
                f"again from there, call rewind({epoch.epoch}) first, or make another monitor"
            )
        self._name(epoch)
        if last is not None and epoch.epoch == last.epoch:
            self.epochs[-1] = last.merged(epoch)
            self._forget(epoch.epoch)
            self._note(self.epochs[-1])
            return
        self._note(epoch)
        if last is not None and last.rates == epoch.rates:  # seldom change: one dict for all
            epoch = epoch.model_copy(update={"rates": last.rates})
        if self.epochs and (self._seen - 1) % self._stride:  # stood there as the last one only
            self.epochs.pop()
        self.epochs.append(epoch)
        self._seen += 1
        if len(self.epochs) > self.capacity:
            self.epochs = [*self.epochs[:-1:2], self.epochs[-1]]
            self._stride *= 2

    def rewind(self, epoch: int) -> None:
        """Forget that epoch and those after it: it will be trained again."""
        kept = [each for each in self.epochs if each.epoch < epoch]
        if len(kept) == len(self.epochs):
            return
        self.epochs = kept
        self._seen = (len(kept) - 1) * self._stride + 1 if kept else 0
        had = self.best is not None
        self._forget(epoch)
        if had and self.best is None:  # more bests than are remembered: those that were kept
            for each in kept:
                self._note(each)

    def names(self) -> list[str]:
        """Of all values, in the order in which they came."""
        return list(self._names)

    def document(self) -> Document:
        """All of it, as it is saved."""
        return Document(
            capacity=self.capacity,
            seen=self._seen,
            stride=self._stride,
            best=self.best,
            not_finite=dict(self.not_finite),
            epochs=tuple(self.epochs),
        )

    @classmethod
    def of(cls, data: Mapping[str, Any] | bytes | str) -> History:
        """What `document` gave, as plain data or as JSON.

        Raises:
            InputError: it is something else.
        """
        try:
            if isinstance(data, bytes | str):
                document = Document.model_validate_json(data)
            else:
                document = Document.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InputError(
                f"expected the history that a monitor saved; {where}: {first['msg']}"
            ) from None
        made = cls(document.capacity)
        made.epochs = list(document.epochs)
        made._bests = [] if document.best is None else [document.best]
        made.not_finite = dict(document.not_finite)
        made._names = dict.fromkeys(name for each in document.epochs for name in each.values)
        made._seen, made._stride = document.seen, document.stride
        return made

    def _name(self, epoch: Epoch) -> None:
        names = self._names | dict.fromkeys(epoch.values)
        if len(names) > MOST_NAMES:
            raise InputError(
                f"a monitor records values of at most {MOST_NAMES} names; got {len(names)}. Names "
                "are to be the same in every epoch"
            )
        self._names = names

    def _forget(self, epoch: int) -> None:
        """What was noted of that epoch and those after it."""
        self.not_finite = {name: at for name, at in self.not_finite.items() if at < epoch}
        self._bests = [best for best in self._bests if best.epoch < epoch]

    def _note(self, epoch: Epoch) -> None:
        for name, value in epoch.values.items():
            if not math.isfinite(value):
                self.not_finite.setdefault(name, epoch.epoch)
        for name in WATCHED:
            value = epoch.values.get(name, math.nan)
            best = self.best
            better = best is None or (name == best.name and value < best.value)
            if math.isfinite(value) and better:
                found = Best(name=name, value=value, epoch=epoch.epoch)
                self._bests = [*self._bests[1 - _BESTS :], found]
