"""`Monitor`: a training as it goes, on the terminal, in a file and in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from torch import Tensor, nn

from mcdrop.arguments import inside, integer, number, one_of
from mcdrop.errors import InputError, McdropError
from mcdrop.monitor.gaps import confidence_gap, coverage_gap, prediction_gap
from mcdrop.monitor.history import CAPACITY, Epoch, History
from mcdrop.monitor.hooks import TrainingHooks
from mcdrop.monitor.learned import rates_now
from mcdrop.monitor.screen import Display, Screen
from mcdrop.prediction import Prediction


class Monitor(TrainingHooks):
    """Records losses, metrics, the rates of layers and the calibration gap, epoch by epoch.

    As a context it keeps a table on the terminal; where there is no terminal, or no context, each
    epoch is a line. A trainer of Lightning takes it as a callback:
    `class Watched(mcdrop.Monitor, lightning.Callback): ...`. That prints lines, since the trainer
    has bars of its own on the terminal; `display="table"` puts the table up there too.

    Args:
        model: whose rates are recorded; with a trainer, its module by default.
        display: `"auto"`, always a `"table"`, `"lines"`, or `"none"`.
        console: of rich; standard output by default.
        capacity: epochs that are kept; of a longer training every second, fourth, … one.
        level: of the intervals of regressions whose coverage is compared with it.
        bins: of the expected calibration error.

    Attributes:
        history: what was recorded.

    Raises:
        InputError: an argument does not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        >>> with Monitor(net, display="none") as monitor:
        ...     for epoch in range(3):
        ...         _ = monitor.record(epoch, train_loss=1 / (epoch + 1), validation_loss=0.5)
        >>> monitor.history.epochs[-1].rates, monitor.history.best.epoch
        ({'1': 0.2}, 0)
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        display: Display = "auto",
        console: Console | None = None,
        capacity: int = CAPACITY,
        level: float = 0.9,
        bins: int = 15,
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise InputError(f"model must be a module; got {type(model).__name__}")
        one_of("display", display, ("auto", "table", "lines", "none"))
        self.model = model
        self.level = inside(level)
        self.bins = integer("bins", bins, 1)
        self.history = History(integer("capacity", capacity, 2))
        self._screen = Screen(display, console)

    # not `log`, where Lightning puts the method of its module
    def record(
        self,
        epoch: int,
        *,
        prediction: Prediction | None = None,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        intervals: tuple[Tensor, Tensor] | None = None,
        targets: Tensor | None = None,
        **values: float | Tensor,
    ) -> Epoch:
        """Record an epoch, and show it. What comes of the same epoch later is added to it.

        Args:
            epoch: its number, not below the last one.
            prediction: of `MCDropout.predict`, for validation rows: the calibration gap is theirs.
            probs: instead, probabilities of classes `[N, C, ...]`, or of yes `[N, ...]`.
            logits: instead, scores of classes or of yes.
            intervals: instead, lower and upper bounds, meant to hold `level` of the targets.
            targets: what is true of those rows: labels, or numbers.
            values: numbers by name. `train_loss` and `validation_loss` are drawn together, as are
                other names that begin so. NaN is recorded as it is.

        Returns:
            What is recorded of the epoch.

        Raises:
            InputError: a value is no number, epochs are out of order, or predictions and targets do
                not fit.
        """
        at = integer("epoch", epoch, 0)
        numbers = {name: number(name, value) for name, value in values.items()}
        calibration = self._calibration(
            targets, prediction=prediction, probs=probs, logits=logits, intervals=intervals
        )
        rates = {} if self.model is None else rates_now(self.model)
        self.history.add(Epoch(epoch=at, values=numbers, rates=rates, calibration=calibration))
        self._screen.show(self.history)
        return self.history.epochs[-1]

    def rewind(self, epoch: int) -> None:
        """Forget that epoch and those after it, to record them again."""
        self.history.rewind(integer("epoch", epoch, 0))

    def plot(self, path: str | Path) -> Path:
        """Draw the curves, the calibration and the rates into a file.

        Args:
            path: the ending says what it will be: `.png`, `.svg` or `.pdf`.

        Raises:
            InputError: nothing was logged yet, or the file would be of another kind.
            McdropError: matplotlib is not installed.
        """
        try:
            from mcdrop.monitor.plot import save
        except ImportError as error:
            raise McdropError("plots need matplotlib: pip install 'mcdrop[eval]'") from error
        return save(self.history, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """What was recorded, as plain data; NaN is the float."""
        return self.history.document().model_dump()

    def save(self, path: str | Path) -> Path:
        """Write what was recorded as JSON; NaN and infinities are the texts `"NaN"` and so on."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = self.history.document().model_dump_json(indent=1)
        target.write_text(text + "\n", encoding="utf-8")
        return target

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None, **arguments: Any) -> Self:
        """A monitor that goes on from what another saved.

        Args:
            path: of its JSON.
            model: as when a monitor is made.
            arguments: of a monitor but `capacity`, which the file says.

        Raises:
            InputError: the file is not what a monitor saved, or cannot be read.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        made = cls(model, **arguments)
        made.history = History.of(text)
        return made

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints: as `to_dict`."""
        return self.to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what another monitor recorded.

        Raises:
            InputError: it is something else.
        """
        self.history = History.of(state_dict)

    def close(self) -> None:
        """Leave the terminal; what was recorded stays."""
        self._screen.stop()

    def __enter__(self) -> Self:
        self._screen.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, module: Any, *, first: bool) -> None:
        if self.model is None and isinstance(module, nn.Module):
            self.model = module
        if not first:
            self._screen.display = "none"
        if self._screen.display == "table":
            self._screen.start()

    def _epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        numbers = {name: number(name, value) for name, value in metrics.items()}
        rates = {} if self.model is None else rates_now(self.model)
        self.history.add(Epoch(epoch=epoch, values=numbers, rates=rates))
        self._screen.show(self.history)

    def _calibration(self, targets: Tensor | None, **given: Any) -> dict[str, float]:
        chosen = [name for name, value in given.items() if value is not None]
        if not chosen and targets is None:
            return {}
        if len(chosen) != 1 or targets is None:
            raise InputError(
                "the calibration gap takes targets=… and one of prediction=…, probs=…, logits=… "
                f"and intervals=…; got {', '.join(chosen) or 'none of them'}, and "
                f"{'no targets' if targets is None else 'targets'}"
            )
        kind, value = chosen[0], given[chosen[0]]
        if kind == "prediction":
            found = prediction_gap(value, targets, level=self.level, bins=self.bins)
            return found.to_dict()
        if kind == "intervals":
            lower, upper = value
            return coverage_gap(lower, upper, targets, level=self.level).to_dict()
        return confidence_gap(**{kind: value}, labels=targets, bins=self.bins).to_dict()
