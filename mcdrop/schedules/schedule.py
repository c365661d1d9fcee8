"""What all schedules have in common: layers, a step, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mcdrop.arguments import integer
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate
from mcdrop.schedules.targets import Layers, settable


class Schedule:
    """Sets the rate of layers, as learning-rate schedulers of torch set those of an optimiser.

    Attributes:
        rate: as last set.
        last_step: how many steps were taken; 0 when made.
        names: of the layers that it drives.
    """

    _counters: ClassVar[tuple[str, ...]] = ()  # further whole numbers of the state

    def __init__(self, layers: Layers, sites: str | Sequence[str] | None, start: float) -> None:
        self._rates = settable(layers, sites)
        self.last_step = 0
        self.rate = start
        self._set(start)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers whose rate it sets."""
        return tuple(rate.name for rate in self._rates)

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as plain data; the arguments are not in it."""
        counters = {name: getattr(self, name) for name in self._counters}
        return {
            "schedule": type(self).__name__,
            "last_step": self.last_step,
            "rate": self.rate,
            **counters,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where another was, made with the same arguments; sets the rate.

        Raises:
            InputError: it is the state of another kind of schedule, or none.
        """
        own = type(self).__name__
        expected = self.state_dict().keys()
        if not isinstance(state_dict, Mapping) or state_dict.keys() != expected:
            raise InputError(
                f"expected the state_dict() of a {own}, with {', '.join(expected)}; got "
                f"{', '.join(map(str, state_dict)) if state_dict else state_dict!r}"
            )
        if state_dict["schedule"] != own:
            raise InputError(
                f"expected the state of a {own}; got that of a {state_dict['schedule']}"
            )
        counters = {
            name: integer(name, state_dict[name], 0) for name in ("last_step", *self._counters)
        }
        rate = checked_rate(state_dict["rate"], name="rate", below_one=True)
        self._restore(state_dict)
        for name, value in counters.items():
            setattr(self, name, value)
        self._set(rate)

    def _restore(self, state_dict: Mapping[str, Any]) -> None:
        """What a kind of schedule remembers besides."""

    def _set(self, rate: float) -> None:
        self.rate = rate
        for each in self._rates:
            setattr(each.module, each.attribute, rate)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(rate={self.rate:g}, last_step={self.last_step}, "
            f"layers={len(self._rates)})"
        )


class TimedSchedule(Schedule, ABC):
    """A rate that is a function of the step alone."""

    def __init__(self, layers: Layers, sites: str | Sequence[str] | None) -> None:
        super().__init__(layers, sites, self.rate_at(0))

    @abstractmethod
    def rate_at(self, step: int) -> float:
        """The rate of a step; that of step 0 is set when the schedule is made."""

    def step(self) -> None:
        """Advance by one, and set the rate; to be called once an epoch (or once a batch)."""
        self._set(self.rate_at(self.last_step + 1))
        self.last_step += 1
