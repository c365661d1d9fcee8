"""A question on its way through the scheduler, and what comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from mcdrop.prediction import Prediction
from service.errors import DeadlineError
from service.loaded import Loaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """An answer, with its seconds in the queue and of being computed."""

    value: T
    queued: float
    computed: float


@dataclass(slots=True, eq=False)
class Ask(Generic[T]):
    """Rows that somebody waits for.

    Attributes:
        loaded: the model that is to answer.
        inputs: tensors by name, on the CPU, `[B, ...]`.
        samples: of each row, at most.
        seed: of the masks.
        render: makes the answer of the prediction; called on the device's thread.
        tolerance: standard error at which a row is done; `None` for all samples.
        first_row: number of the first row.
        deadline: on the monotonic clock; when it passes, what there is is the answer.
        partial: told what there is after each block, on the event loop; `None` for no telling.
        submitted: when it came, on the monotonic clock.
        entered: when its first row was taken in.
        future: the answer, on the event loop that waits for it.
    """

    loaded: Loaded
    inputs: Mapping[str, Tensor]
    samples: int
    seed: int
    render: Callable[[Prediction], T]
    tolerance: float | None = None
    first_row: int = 0
    deadline: float | None = None
    partial: Callable[[Timed[T]], None] | None = None
    submitted: float = field(default_factory=time.monotonic)
    entered: float | None = None
    future: asyncio.Future[Timed[T]] = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.inputs.values())))

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return self.future.done()

    @property
    def in_order(self) -> bool:
        """Whether blocks are taken in order, so that what there is is a prediction of its own.

        A tolerance is looked at after the first blocks whatever rows are beside; a deadline or a
        partial answer is then what `predict` would say with so many samples.
        """
        return self.tolerance is not None or self.together

    @property
    def together(self) -> bool:
        """Whether all rows are sampled side by side, as what there is may be wanted any time."""
        return self.deadline is not None or self.partial is not None

    def timed(self, value: Any) -> Timed[Any]:
        """A value with the times so far."""
        now = time.monotonic()
        entered = now if self.entered is None else self.entered
        return Timed(value, entered - self.submitted, now - entered)

    def late(self) -> DeadlineError:
        """The error where the deadline passes before there is anything to say."""
        waited = (time.monotonic() - self.submitted) * 1e3
        return DeadlineError(
            f"the deadline passed after {waited:.0f} ms, before every row had a sample; "
            "allow more time, or ask for fewer rows"
        )

    def answer(self, prediction: Prediction) -> None:
        """Render the answer and hand it over."""
        try:
            value = self.render(prediction)
        except Exception as error:  # noqa: BLE001 - the caller's to handle, whatever it is
            self.fail(error)
            return
        self._tell(self._resolve, self.timed(value))

    def report(self, prediction: Prediction) -> None:
        """Render a partial answer and hand it over."""
        assert self.partial is not None
        try:
            value = self.render(prediction)
        except Exception as error:  # noqa: BLE001 - the caller's to handle, whatever it is
            self.fail(error)
            return
        self._tell(self.partial, self.timed(value))

    def fail(self, error: BaseException) -> None:
        """Hand an error over."""
        self._tell(self._reject, error)

    def _resolve(self, value: Timed[T]) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _reject(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def _tell(self, callback: Callable[..., None], value: Any) -> None:
        if not self.loop.is_closed():  # or there is nobody left to tell
            self.loop.call_soon_threadsafe(callback, value)
