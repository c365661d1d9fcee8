"""A rate that changes when a metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from mcdrop.arguments import integer, number, one_of
from mcdrop.errors import InputError
from mcdrop.schedules.limits import bounds, multiplier, rate_argument
from mcdrop.schedules.schedule import Schedule
from mcdrop.schedules.targets import Layers

Mode = Literal["min", "max"]
ThresholdMode = Literal["rel", "abs"]


class PlateauRate(Schedule):
    r"""Multiplied by a factor when a metric has not improved for more than so many steps.

    .. math:: p \leftarrow \operatorname{clip}(f p,\ p_\text{lowest},\ p_\text{highest})

    What improves, when a plateau is one, and what follows it are those of
    `torch.optim.lr_scheduler.ReduceLROnPlateau`: a metric that is NaN is no improvement. With a
    factor above 1 the rate rises, against overfitting; below 1 it falls, against underfitting.

    Args:
        layers: a model, a layer, or a list of layers.
        start: the rate to begin with; above 0.
        factor: f.
        mode: whether the metric is to become small, `"min"`, or large, `"max"`.
        patience: steps without improvement that are let pass.
        threshold: improvements that are not larger are none.
        threshold_mode: whether that is a share of the best (`"rel"`) or a difference (`"abs"`).
        cooldown: steps after a change in which nothing is counted.
        lowest: where the rate stops falling.
        highest: where it stops rising.
        sites: patterns of the layers' names (`"encoder.*"`); all by default.

    Attributes:
        best: the best metric so far; infinite before the first.

    Raises:
        InputError: an argument is out of its range, or no layer has a rate to set.

    Example:
        >>> from torch import nn
        >>> schedule = PlateauRate(nn.Dropout(), 0.2, 1.5, patience=1, highest=0.5)
        >>> for loss in (1.0, 0.9, 0.95, 0.96):
        ...     schedule.step(loss)
        >>> round(schedule.rate, 4), schedule.best
        (0.3, 0.9)
    """

    _counters: ClassVar[tuple[str, ...]] = ("bad_steps", "cooling")

    def __init__(
        self,
        layers: Layers,
        start: float,
        factor: float,
        *,
        mode: Mode = "min",
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: ThresholdMode = "rel",
        cooldown: int = 0,
        lowest: float = 0.0,
        highest: float = 0.9,
        sites: str | Sequence[str] | None = None,
    ) -> None:
        one_of("mode", mode, ("min", "max"))
        one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        first = rate_argument("start", start)
        self.factor = multiplier(factor, first)
        self.lowest, self.highest = bounds(first, lowest, highest)
        self.mode: Mode = mode
        self.patience = integer("patience", patience, 0)
        self.cooldown = integer("cooldown", cooldown, 0)
        self.threshold = number("threshold", threshold)
        if not 0.0 <= self.threshold < math.inf:
            raise InputError(f"threshold must be a number, at least 0; got {threshold!r}")
        self.threshold_mode: ThresholdMode = threshold_mode
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = 0
        self.cooling = 0
        super().__init__(layers, sites, first)

    def step(self, metric: float | Tensor) -> None:
        """Advance by one, and change the rate if the metric has not improved for too long.

        Args:
            metric: a number, or a tensor of one element; what `mode` is about.

        Raises:
            InputError: it is no number.
        """
        value = number("the metric of step(metric)", metric)
        if self._better(value):
            self.best, self.bad_steps = value, 0
        else:
            self.bad_steps += 1
        if self.cooling > 0:
            self.cooling, self.bad_steps = self.cooling - 1, 0
        if self.bad_steps > self.patience:
            self._set(min(max(self.rate * self.factor, self.lowest), self.highest))
            self.cooling, self.bad_steps = self.cooldown, 0
        self.last_step += 1

    def _better(self, value: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if math.isinf(self.best):
            return sign * value > sign * self.best
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1.0 + sign * self.threshold)
        return sign * value > sign * self.best + self.threshold

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain data; the arguments are not in it."""
        return {**super().state_dict(), "best": self.best}

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        self.best = number("best", state_dict["best"])
