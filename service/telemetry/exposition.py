"""Counts as metric families, and metric families as the text that Prometheus reads."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Literal, TypeAlias, get_args

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import exposition as openmetrics

from service.registry import State
from service.telemetry.histogram import Histogram
from service.telemetry.tally import Tally

Model: TypeAlias = tuple[str, int]
StatusClass: TypeAlias = Literal["1xx", "2xx", "3xx", "4xx", "5xx"]

_LABELS = ("model", "version")
# Triton's counters, by their attribute in a tally. Their names lack the suffix _total, without
# which neither OpenMetrics nor the client library lets a counter be: they go as `unknown` there.
_TRITON = {
    "nv_inference_request_success": ("succeeded", "Requests that were answered"),
    "nv_inference_count": ("rows", "Rows that were answered"),
    "nv_inference_exec_count": ("steps", "Batches that were executed"),
    "nv_inference_request_duration_us": ("request_us", "Microseconds in the server"),
    "nv_inference_queue_duration_us": ("queue_us", "Microseconds in the queue"),
    "nv_inference_compute_infer_duration_us": ("compute_us", "Microseconds of computing"),
}
_FAILURE = "nv_inference_request_failure"
_OURS = {
    "mcdrop_samples_total": ("samples", "Monte Carlo samples taken, of all rows"),
    "mcdrop_early_stops_total": ("early", "Rows that met their tolerance before their last sample"),
}
_HISTOGRAMS = {
    "mcdrop_samples_per_row": ("samples_per_row", "Samples that a row took"),
    "mcdrop_predictive_entropy": ("entropy", "Entropy of predictions, in nats"),
    "mcdrop_mutual_information": ("information", "Mutual information of predictions, in nats"),
    "mcdrop_step_seconds": ("step_seconds", "Seconds that a batch took on the device"),
}


def families(
    tallies: Mapping[Model, Tally],
    states: Iterable[tuple[str, int, str]],
    http: Mapping[tuple[str, StatusClass], Histogram],
    resident: Mapping[str, int],
) -> Iterator[Metric]:
    """All metric families, also those that have no series yet.

    Args:
        tallies: counts by model and version.
        states: name, version and state of each model.
        http: seconds by route and class of status.
        resident: rows by device.
    """
    yield from _of_models(tallies)
    state = GaugeMetricFamily(
        "mcdrop_model_state", "1 for the state that a model is in", labels=[*_LABELS, "state"]
    )
    for model, number, current in states:
        for name in dict.fromkeys((*get_args(State), current)):
            state.add_metric([model, str(number), name], float(name == current))
    yield state
    rows = GaugeMetricFamily(
        "mcdrop_resident_rows", "Rows that are being sampled now", labels=["device"]
    )
    for device, count in resident.items():
        rows.add_metric([device], count)
    yield rows
    seconds = HistogramMetricFamily(
        "mcdrop_http_request_duration_seconds",
        "Seconds that HTTP requests took, by the template of their path",
        labels=["route", "status"],
    )
    for labels, histogram in http.items():
        seconds.add_metric(labels, histogram.cumulative(), histogram.sum)
    yield seconds
    yield InfoMetricFamily("mcdrop_build", "Versions that are at work", _build())


def _of_models(tallies: Mapping[Model, Tally]) -> Iterator[Metric]:
    labelled = [([model, str(number)], tally) for (model, number), tally in tallies.items()]
    for name, (attribute, meaning) in _TRITON.items():
        counter = UnknownMetricFamily(name, meaning, labels=_LABELS)
        for labels, tally in labelled:
            counter.add_metric(labels, getattr(tally, attribute))
        yield counter
    failures = UnknownMetricFamily(_FAILURE, "Requests that failed", labels=[*_LABELS, "reason"])
    pending = GaugeMetricFamily(
        "nv_inference_pending_request_count", "Requests in the queue", labels=_LABELS
    )
    for labels, tally in labelled:
        for reason, count in tally.failures.items():
            failures.add_metric([*labels, reason], count)
        pending.add_metric(labels, tally.pending)
    yield failures
    yield pending
    for name, (attribute, meaning) in _OURS.items():
        total = CounterMetricFamily(name, meaning, labels=_LABELS)
        for labels, tally in labelled:
            total.add_metric(labels, getattr(tally, attribute))
        yield total
    for name, (attribute, meaning) in _HISTOGRAMS.items():
        histogram = HistogramMetricFamily(name, meaning, labels=_LABELS)
        for labels, tally in labelled:
            counts: Histogram = getattr(tally, attribute)
            histogram.add_metric(labels, counts.cumulative(), counts.sum)
        yield histogram


@cache
def _build() -> dict[str, str]:
    return {
        "version": version("mcdrop"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics of a registry as text, with its content type.

    Args:
        registry: of one application.
        accept: the header of the request: OpenMetrics for those who prefer it, else Prometheus'
            own format.
    """
    if _prefers_openmetrics(accept):
        return openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST
    text = generate_latest(registry)
    for name in (*_TRITON, _FAILURE):  # which Prometheus' own format lets be what they are
        kind = f"# TYPE {name} "
        text = text.replace(f"{kind}untyped\n".encode(), f"{kind}counter\n".encode(), 1)
    return text, CONTENT_TYPE_PLAIN_0_0_4


def _prefers_openmetrics(accept: str) -> bool:
    openmetrics_weight, text_weight = 0.0, 0.0
    for offered in accept.split(","):
        media, *parameters = (part.strip().lower() for part in offered.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q" and value.replace(".", "", 1).isdecimal():
                weight = float(value)
        if media == "application/openmetrics-text":
            openmetrics_weight = max(openmetrics_weight, weight)
        elif media in {"text/plain", "text/*", "*/*"}:
            text_weight = max(text_weight, weight)
    return openmetrics_weight > 0 and openmetrics_weight >= text_weight
