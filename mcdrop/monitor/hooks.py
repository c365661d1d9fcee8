"""A monitor as a callback of Lightning, which it does not need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

_VALIDATION = ("validation", "valid", "val")


class TrainingHooks(ABC):
    """The hooks of a trainer that a monitor answers.

    A trainer is whatever has `callback_metrics`, a mapping of names to numbers, and
    `current_epoch`. Validation takes place within the epoch, before its training ends; its metrics
    have names that begin with `val`. In an epoch without validation they are those of an earlier
    one, which the trainer still has, and are not recorded again.
    """

    _fitting = False
    _validated = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Watch the module; shown by the first process alone."""
        self._fitting, self._validated = True, False
        self._begin(pl_module, first=bool(getattr(trainer, "is_global_zero", True)))

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """If the epoch was trained before, forget that time and what followed.

        Now and not at its end: its validation, which may record more of it, comes in between.
        """
        self._validated = False
        self.rewind(int(trainer.current_epoch))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Note that there are new metrics; the batches before the training do not count."""
        if not self._fitting or getattr(trainer, "sanity_checking", False):
            return
        self._validated = True

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Record the epoch, beside what its validation has recorded."""
        metrics = _whole(trainer.callback_metrics)
        if not self._validated:
            metrics = {n: v for n, v in metrics.items() if not n.startswith(_VALIDATION)}
        self._epoch(int(trainer.current_epoch), metrics)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Leave the terminal."""
        self._fitting = False
        self.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Leave the terminal, to the error."""
        self._fitting = False
        self.close()

    @abstractmethod
    def rewind(self, epoch: int) -> None:
        """Forget that epoch and those after it."""

    @abstractmethod
    def close(self) -> None:
        """Leave the terminal."""

    @abstractmethod
    def _begin(self, module: Any, *, first: bool) -> None: ...

    @abstractmethod
    def _epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None: ...


def _whole(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Without the parts of what was logged both by step and by epoch."""
    return {
        name: value
        for name, value in metrics.items()
        if not any(
            name.endswith(end) and name.removesuffix(end) in metrics for end in ("_step", "_epoch")
        )
    }
