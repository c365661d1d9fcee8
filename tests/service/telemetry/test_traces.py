"""Spans, as a collector gets them by OTLP over HTTP."""

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import Settings, create_app
from service.errors import SettingsError
from service.telemetry.tracing import open_tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
BODY = {"inputs": [[1, 2, 3]] * 2, "samples": 48}
PREDICT = "/v1/models/meter/predict"


class Collector:
    """Takes spans as any collector does: one POST of a protobuf message for each batch."""

    def __init__(self):
        self.requests = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                message = ExportTraceServiceRequest.FromString(body)
                collector.requests.append((self.path, dict(self.headers), message))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def resources(self):
        for _, _, message in self.requests:
            yield from message.resource_spans

    def spans(self):
        return [
            span
            for resource in self.resources()
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector():
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join(10)
    collector.server.server_close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def attributes(holder):
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value")) for item in holder.attributes
    }


def ask(server, path=PREDICT, body=BODY, **headers):
    url = f"http://127.0.0.1:{server.port}{path}"
    return httpx.post(url, json=body, headers=headers, timeout=30)


def stop(server):
    server.process.terminate()
    log = server.read_rest()
    assert server.process.returncode == 0, log
    return log


def test_a_collector_gets_the_spans_of_a_request(spawn, repository, collector):
    with spawn(repository, otel_endpoint=collector.url, log_format="json") as server:
        answer = ask(server, **SAMPLED, **{"x-request-id": "mine"})
        assert answer.status_code == 200
        log = stop(server)
    assert {path for path, _, _ in collector.requests} == {"/v1/traces"}
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"POST /v1/models/{model}/predict", "queue", "compute"}
    root = spans["POST /v1/models/{model}/predict"]
    assert root.kind == Span.SPAN_KIND_SERVER
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    about = {
        "http.route": "/v1/models/{model}/predict",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "mcdrop.model": "meter",
        "mcdrop.version": 1,
        "mcdrop.rows": 2,
        "mcdrop.samples": 48,
        "mcdrop.request_id": "mine",
    }
    assert attributes(root) | about == attributes(root)
    queue, compute = spans["queue"], spans["compute"]
    for child in (queue, compute):
        assert (child.trace_id.hex(), child.parent_span_id) == (TRACE, root.span_id)
    assert queue.start_time_unix_nano <= queue.end_time_unix_nano == compute.start_time_unix_nano
    assert compute.start_time_unix_nano < compute.end_time_unix_nano <= root.end_time_unix_nano
    took = (compute.end_time_unix_nano - compute.start_time_unix_nano) / 1e6
    assert took == pytest.approx(answer.json()["timing"]["compute_ms"], abs=0.002)
    assert {attributes(part.resource)["service.name"] for part in collector.resources()} == {
        "mcdrop"
    }
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["trace_id"] for line in lines if line.get("request_id") == "mine"] == [TRACE]


def test_the_standard_environment_is_enough(spawn, repository, collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shapes-of-the-lab")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=lab")
    with spawn(repository) as server:
        ask(server, body={"inputs": [[1]]})
        stop(server)
    (root,) = collector.spans()
    assert attributes(root)["http.response.status_code"] == 422
    (_, headers, message) = collector.requests[0]
    assert headers["x-tenant"] == "lab"
    resource = attributes(message.resource_spans[0].resource)
    assert resource["service.name"] == "shapes-of-the-lab"


def test_a_caller_who_is_not_sampled_is_not_traced(spawn, repository, collector):
    with spawn(repository, otel_endpoint=collector.url + "/v1/traces/") as server:
        ask(server, traceparent=f"00-{TRACE}-{PARENT}-00")
        ask(server, path="/v1/models/shapes/predict", body={"inputs": [[1, 2, 3, 4]]})
        stop(server)
    assert {attributes(s).get("mcdrop.model") for s in collector.spans() if s.parent_span_id == b""
            } == {"shapes"}  # fmt: skip
    assert TRACE not in {span.trace_id.hex() for span in collector.spans()}


def test_a_bug_is_an_error_of_its_span(start, repository, collector):
    with start(Settings(models=repository, device="cpu", otel_endpoint=collector.url)) as live:
        object.__setattr__(live.runtime.registry.ready("meter"), "predictors", ())
        assert live.client.post(PREDICT, json=BODY).status_code == 500
    (root,) = collector.spans()
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert attributes(root)["error.type"] == "IndexError"
    assert attributes(root)["mcdrop.model"] == "meter"


@pytest.fixture(scope="module")
def traced(start, repository):
    """A server with an exporter in this process; its collector is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with start(Settings(models=repository, device="cpu", otel_endpoint=nowhere)) as live:
        exporter = InMemorySpanExporter()
        live.runtime.tracing.provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield live, exporter


@pytest.mark.parametrize(
    ("method", "path", "content", "name", "status"),
    [
        ("GET", "/v1/models/shapes", "", "GET /v1/models/{model}", 200),
        ("GET", "/v1/models/nope", "", "GET /v1/models/{model}", 404),
        ("GET", "/no/such/path", "", "GET", 404),
        ("POST", PREDICT, "{", "POST /v1/models/{model}/predict", 400),
    ],
)
def test_requests_that_predict_nothing_have_one_span(traced, method, path, content, name, status):
    live, exporter = traced
    exporter.clear()
    live.client.request(method, path, content=content)
    (span,) = wait_for(exporter, 1)
    assert (span.name, span.kind) == (name, SpanKind.SERVER)
    assert span.attributes["http.response.status_code"] == status
    assert span.status.status_code is StatusCode.UNSET  # the caller's mistake, not the server's
    assert "mcdrop.model" not in span.attributes


def test_requests_at_the_same_time_keep_their_spans(traced):
    live, exporter = traced
    exporter.clear()
    with httpx.Client(base_url=live.client.base_url, timeout=30) as client:
        threads = [
            threading.Thread(target=client.post, args=(PREDICT,), kwargs={"json": BODY})
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    spans = wait_for(exporter, 18)
    roots = {span.context.span_id for span in spans if span.kind is SpanKind.SERVER}
    assert len(roots) == 6
    for name in ("queue", "compute"):
        assert {span.parent.span_id for span in spans if span.name == name} == roots


def test_probes_and_scrapes_are_not_traced(traced):
    live, exporter = traced
    exporter.clear()
    for path in ("/health/live", "/v2/health/ready", "/metrics"):
        assert live.client.get(path).status_code == 200
    live.client.get("/v1/models")
    assert [span.name for span in wait_for(exporter, 1)] == ["GET /v1/models"]


def wait_for(exporter, count):
    """A span ends when its answer has been sent, and so a moment after the caller has it."""
    deadline = time.monotonic() + 10
    while len(exporter.get_finished_spans()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return exporter.get_finished_spans()


def test_a_collector_that_hangs_keeps_nobody_waiting(spawn, repository, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "120")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with spawn(repository, otel_endpoint=endpoint) as server:
            assert ask(server).status_code == 200
            began = time.monotonic()
            log = stop(server)
    assert time.monotonic() - began < 20
    assert log.rstrip().endswith("stopped")


def test_without_the_packages_it_is_one_line(repository):
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from service.__main__ import main\n"
        "sys.argv = ['service']; sys.exit(main())"
    )
    environment = os.environ | {
        "MCDROP_MODELS": str(repository),
        "MCDROP_PORT": "0",
        "MCDROP_OTEL_ENDPOINT": "http://127.0.0.1:4318",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "; opentelemetry.sdk.trace is not installed: pip install" in done.stderr
    assert "pip install 'mcdrop[otel]'" in done.stderr


def test_without_an_endpoint_nothing_is_imported():
    code = (
        "import sys\n"
        "from service import Settings, create_app\n"
        "create_app(Settings(models='nowhere'))\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', "
        "'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "switch", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}]
)
def test_it_is_switched_off_as_everywhere(monkeypatch, switch):
    endpoint = "http://127.0.0.1:4318"
    assert open_tracing(endpoint) is not None
    for name, value in switch.items():
        monkeypatch.setenv(name, value)
    assert open_tracing(endpoint) is None


def test_nothing_is_sent_before_the_application_starts(tmp_path):
    threads = threading.active_count()
    create_app(Settings(models=tmp_path, otel_endpoint="http://127.0.0.1:4318"))
    assert threading.active_count() == threads


@pytest.mark.parametrize("url", ["collector:4318", "grpc://x:4317", "http://", "http://x/?a", "x"])
def test_a_bad_endpoint_is_told_what_one_looks_like(url):
    with pytest.raises(SettingsError, match=r"MCDROP_OTEL_ENDPOINT.*http://127\.0\.0\.1:4318"):
        Settings(otel_endpoint=url)
