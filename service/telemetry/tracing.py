"""OpenTelemetry: a span for each request, and in it the wait and the computing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from threading import Thread
from typing import Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry import propagate, trace
from starlette.types import Scope

from service.errors import StartError
from service.telemetry.request_ids import current

_PATH = "/v1/traces"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# statuses of gRPC that OpenTelemetry counts as the server's fault
_FAULTS = frozenset({"DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"})
_FLUSH_SECONDS = 2.0  # what a collector that is there needs is far less


class Tracing:
    """Spans of one application, sent to a collector by OTLP over HTTP.

    FastAPI makes the span of a request, `call` that of a gRPC call: a child of the caller's
    `traceparent`. The standard `OTEL_*` variables say who is traced (`OTEL_TRACES_SAMPLER`), under
    which name (`OTEL_SERVICE_NAME`), and with which headers spans are sent
    (`OTEL_EXPORTER_OTLP_HEADERS`).
    Nothing runs before `start`.

    Raises:
        StartError: OpenTelemetry's packages are not installed.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ModuleNotFoundError as error:
            raise StartError(
                f"traces need OpenTelemetry's SDK and exporter; {error.name} is not installed: "
                "pip install 'mcdrop[otel]', or unset MCDROP_OTEL_ENDPOINT and OTEL_EXPORTER_OTLP_*"
            ) from None
        named = "OTEL_SERVICE_NAME" in os.environ
        named |= "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({} if named else {"service.name": "mcdrop"})
        # not the global one: several applications may live in one process
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self.provider.get_tracer("mcdrop")
        self._endpoint = _signal_endpoint(endpoint) if endpoint else None
        self._exporter, self._processor = OTLPSpanExporter, BatchSpanProcessor

    def config(self) -> TelemetryConfig:
        """What FastAPI is told: one span for each request, none for probes and scrapes."""
        return {
            "tracer_provider": self.provider,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": _is_probe,
        }

    def start(self) -> None:
        """Begin to send spans, in the background."""
        self.provider.add_span_processor(self._processor(self._exporter(endpoint=self._endpoint)))

    async def close(self, seconds: float) -> None:
        """Send what is left and stop, in so many seconds and no more than two."""
        # daemon: a collector that is not there must not keep the process
        flush = Thread(target=self.provider.shutdown, name="mcdrop-spans", daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, min(seconds, _FLUSH_SECONDS))

    @contextlib.contextmanager
    def call(self, method: str, metadata: Mapping[str, str], *, known: bool) -> Iterator[None]:
        """The span of a gRPC call, a child of the caller's `traceparent`, for `call_ended` to end.

        Args:
            method: `/package.Service/Method`.
            metadata: what came with the call.
            known: whether there is such a method; what callers make up names no span.
        """
        name = method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name if known else "_OTHER"}
        if not known:
            attributes["rpc.method_original"] = name
        with self._tracer.start_as_current_span(
            name if known else "grpc",
            context=propagate.extract(metadata),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def call_ended(self, code: str) -> None:
        """Say of the current span how the call ended, by the name of gRPC's status."""
        span = trace.get_current_span()
        span.set_attribute("rpc.response.status_code", code)
        if code in _FAULTS:
            span.set_attribute("error.type", code)
            span.set_status(trace.StatusCode.ERROR)

    def begin(self, model: str, version: int, **counts: int) -> None:
        """Say of the current span which model it is about, and how many rows and samples."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        attributes: dict[str, Any] = {"mcdrop.model": model, "mcdrop.version": version}
        attributes |= {f"mcdrop.{name}": count for name, count in counts.items()}
        span.set_attributes(attributes)
        if request := current.get():
            span.set_attribute("mcdrop.request_id", request.id)
            request.trace_id = trace.format_trace_id(span.get_span_context().trace_id)

    def computed(self, queued: float, computed: float) -> None:
        """Add the spans of a wait and of a computation that ends now, both in seconds."""
        if not trace.get_current_span().is_recording():
            return
        ended = time.time_ns()
        began = ended - round(computed * 1e9)
        joined = began - round(queued * 1e9)
        self._tracer.start_span("queue", start_time=joined).end(began)
        self._tracer.start_span("compute", start_time=began).end(ended)


def open_tracing(endpoint: str | None) -> Tracing | None:
    """Tracing if a collector is named, by the setting or by OpenTelemetry's own environment.

    Raises:
        StartError: OpenTelemetry's packages are not installed.
    """
    standard = any(os.environ.get(name) for name in _ENDPOINTS)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    disabled |= os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    if disabled or not (endpoint or standard):
        return None
    return Tracing(endpoint)


def _signal_endpoint(endpoint: str) -> str:
    endpoint = endpoint.rstrip("/")
    return endpoint if endpoint.endswith(_PATH) else endpoint + _PATH


def _is_probe(scope: Scope) -> bool:
    return scope["path"] == "/metrics" or "/health/" in scope["path"]
