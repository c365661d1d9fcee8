"""The plan: which engine computes what, how much at a time, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Samples whose gathered weights are kept for the next time, at least; later ones are gathered anew.
KEPT_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class Way:
    """An engine, and how many samples it computes at a time: a power of two, or 0 for none."""

    engine: str
    samples: int

    def halved(self) -> Way:
        """Half as many samples at a time."""
        return replace(self, samples=max(1, self.samples // 2))

    def __str__(self) -> str:
        if self.samples == 0:
            return f"{self.engine}, no samples"
        return f"{self.engine}, {self.samples} sample{'s' * (self.samples > 1)} at a time"


@dataclass(frozen=True, slots=True)
class Trial:
    """A way that was tried on the caller's rows, and what a sample took.

    Attributes:
        fresh: whether what could be kept was made anew, as for a seed seen for the first time.
        seconds: for one sample of all rows; `None` where memory did not suffice.
    """

    way: Way
    fresh: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a prediction is computed.

    Attributes:
        rows: rows computed together.
        kept: how samples are computed whose masks and weights may be kept: the first ones of a
            seed that was asked for before.
        fresh: how all others are computed.
        kept_samples: how many those first ones are, a power of two.
        trials: what was measured to choose.
        notes: what else there is to know, a line each.
    """

    rows: int
    kept: Way
    fresh: Way
    kept_samples: int = KEPT_SAMPLES
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def engine(self) -> str:
        """Name of the engine that computes the first samples of a repeated seed."""
        return self.kept.engine

    def way(self, sample: int, *, repeated: bool) -> Way:
        """How a sample is computed."""
        return self.kept if repeated and sample < self.kept_samples else self.fresh

    def __str__(self) -> str:
        lines = [f"{self.rows} row{'s' * (self.rows > 1)} together; {self.kept}"]
        if self.fresh != self.kept:
            first = f"samples beyond {self.kept_samples:,}, and seeds seen for the first time"
            lines.append(f"{first}: {self.fresh}")
        lines += self.notes
        lines += [_line(trial) for trial in self.trials]
        return "\n".join(lines)


def _line(trial: Trial) -> str:
    cost = "out of memory" if trial.seconds is None else f"{trial.seconds * 1e3:.3f} ms a sample"
    return f"measured: {trial.way}{', all made anew' * trial.fresh}: {cost}"
