"""The counts of one version of a model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeAlias

from service.telemetry.histogram import Histogram

Reason: TypeAlias = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]
REASONS: tuple[Reason, ...] = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

_SAMPLES = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_ENTROPY = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)  # nats
_INFORMATION = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)  # nats
_STEP = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds


@dataclass(slots=True, eq=False)
class Tally:
    """What was counted of one version of a model; durations are sums in microseconds."""

    succeeded: int = 0
    failures: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    rows: int = 0
    steps: int = 0
    samples: int = 0
    early: int = 0
    pending: int = 0
    request_us: int = 0
    queue_us: int = 0
    compute_us: int = 0
    step_seconds: Histogram = field(default_factory=partial(Histogram, _STEP))
    samples_per_row: Histogram = field(default_factory=partial(Histogram, _SAMPLES))
    entropy: Histogram = field(default_factory=partial(Histogram, _ENTROPY))
    information: Histogram = field(default_factory=partial(Histogram, _INFORMATION))

    def copy(self) -> Tally:
        """The same counts, which stay as they are."""
        return replace(
            self,
            failures=dict(self.failures),
            step_seconds=self.step_seconds.copy(),
            samples_per_row=self.samples_per_row.copy(),
            entropy=self.entropy.copy(),
            information=self.information.copy(),
        )
