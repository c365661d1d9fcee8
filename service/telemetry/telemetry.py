"""What the server counts while it works; Prometheus reads it from `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from starlette.requests import ClientDisconnect

from mcdrop.errors import InputError
from service.errors import RequestError
from service.telemetry.exposition import StatusClass, families
from service.telemetry.histogram import Histogram
from service.telemetry.tally import Reason, Tally

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
ModelState: TypeAlias = tuple[str, int, str]

_HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CLASSES: tuple[StatusClass, ...] = ("1xx", "2xx", "3xx", "4xx", "5xx")


def reason_of(error: BaseException) -> Reason:
    """Why a request to a model failed, in Triton's words.

    Returns:
        `REJECTED`: not taken on, or not in time; `CANCELED`: the caller went away; `OTHER`: the
        request does not fit; `BACKEND`: the model or the server failed.

    Example:
        >>> from service.errors import QueueFullError
        >>> reason_of(QueueFullError("64 requests are waiting already")), reason_of(KeyError("x"))
        ('REJECTED', 'BACKEND')
    """
    if isinstance(error, asyncio.CancelledError | ClientDisconnect):
        return "CANCELED"
    if isinstance(error, RequestError):
        return "REJECTED" if error.status in {429, 503, 504} else "OTHER"
    return "OTHER" if isinstance(error, InputError) else "BACKEND"


class Telemetry:
    """Counts of one application; safe to call from any thread.

    Series are made for models that can predict, never for names that a caller made up. What is
    kept are plain numbers under one lock; metric families are built when they are asked for.

    Attributes:
        registry: what `/metrics` shows, for further collectors to be registered with.

    Example:
        >>> telemetry = Telemetry()
        >>> telemetry.answered("digits", 1, rows=2, queued=0.001, computed=0.02, total=0.022)
        >>> telemetry.registry.get_sample_value(
        ...     "nv_inference_count", {"model": "digits", "version": "1"})
        2
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._resident: dict[str, int] = {}
        self._http: dict[tuple[str, StatusClass], Histogram] = {}
        self._states: Callable[[], Iterable[ModelState]] = tuple
        # not the global one: several applications may live in one process
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def watch(self, states: Callable[[], Iterable[ModelState]]) -> None:
        """Say where to read the name, version and state of each model, whenever metrics are read.

        What is ready has its series from the start; what is no longer there loses them.
        """
        self._states = states

    def pending(self, model: str, version: int, change: int) -> None:
        """A request joined the queue (1), or left it, to be computed or for good (-1)."""
        with self._lock:
            self._tally(model, version).pending += change

    def answered(
        self,
        model: str,
        version: int,
        *,
        rows: int,
        queued: float,
        computed: float,
        total: float,
    ) -> None:
        """A request was answered; `queued`, `computed` and `total` are its seconds."""
        with self._lock:
            tally = self._tally(model, version)
            tally.succeeded += 1
            tally.rows += rows
            tally.queue_us += round(queued * 1e6)
            tally.compute_us += round(computed * 1e6)
            tally.request_us += round(total * 1e6)

    def failed(self, model: str, version: int, reason: Reason) -> None:
        """A request to a model failed; `reason_of` gives the reason."""
        with self._lock:
            self._tally(model, version).failures[reason] += 1

    def step(self, model: str, version: int, *, rows: int, samples: int, seconds: float) -> None:
        """A batch of rows was sampled, each `samples` times."""
        with self._lock:
            tally = self._tally(model, version)
            tally.steps += 1
            tally.samples += rows * samples
            tally.step_seconds.add(seconds)

    def resident(self, device: str, rows: int) -> None:
        """So many rows are being sampled on a device now."""
        with self._lock:
            self._resident[device] = rows

    def rows_done(
        self, model: str, version: int, fields: Mapping[str, Array], *, early: int
    ) -> None:
        """Rows have their answer.

        Args:
            model: its name.
            version: its version.
            fields: of the prediction; `samples`, `entropy` and `mutual_information` are counted,
                those that are there.
            early: how many of the rows stopped before the most samples that they might take.
        """
        with self._lock:
            tally = self._tally(model, version)
            tally.early += early
            for name, histogram in (
                ("samples", tally.samples_per_row),
                ("entropy", tally.entropy),
                ("mutual_information", tally.information),
            ):
                if name in fields:
                    histogram.add_all(fields[name])

    def http(self, route: str, status: int, seconds: float) -> None:
        """An HTTP request was answered; `route` is the template of its path, not the path."""
        key = route, _CLASSES[min(max(status // 100, 1), 5) - 1]
        with self._lock:
            if key not in self._http:
                self._http[key] = Histogram(_HTTP_SECONDS)
            self._http[key].add(seconds)

    def collect(self) -> Iterable[Metric]:
        """The metric families as they stand; called by `registry`."""
        states = list(self._states())
        known = {(model, version) for model, version, _ in states}
        with self._lock:
            for model, version, state in states:
                if state == "ready":
                    self._tally(model, version)
            for key in [key for key in self._tallies if states and key not in known]:
                if not self._tallies[key].pending:  # its queue has still to be left
                    del self._tallies[key]
            models = {key: tally.copy() for key, tally in self._tallies.items()}
            http = {key: histogram.copy() for key, histogram in self._http.items()}
            resident = dict(self._resident)
        return families(models, states, http, resident)

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known only with their values."""
        return ()

    def _tally(self, model: str, version: int) -> Tally:
        found = self._tallies.get((model, version))
        if found is None:
            found = self._tallies[model, version] = Tally()
        return found
