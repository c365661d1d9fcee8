"""What is kept of each gRPC call: its id, its record, its span."""

import json
import logging
import re
import signal
import socket
import time

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from service import Settings
from service.access.keys import KeyScope, key_entry, new_key

grpc = pytest.importorskip("grpc")
pytest.importorskip("tritonclient.grpc")

from tritonclient.grpc import service_pb2 as messages  # noqa: E402

MADE = re.compile(r"[0-9a-f]{32}")
PREFIX = "/inference.GRPCInferenceService/"
SLOW = 10**8  # samples
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEY, SLOW_KEY = new_key(), new_key()
KNOWN, UNKNOWN = "known", "unknown"  # keys themselves, made anew, would be in the tests' names


@pytest.fixture(scope="module")
def live(start, repository, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    entries = (("alice", KEY, None, None), ("slow", SLOW_KEY, 0.01, 1))
    keys.write_text(
        "".join(
            key_entry(name, key, KeyScope.READ, rate, burst) for name, key, rate, burst in entries
        )
    )
    keys.chmod(0o600)
    settings = Settings(
        models=repository, device="cpu", api_keys=keys, grpc_port=0, max_samples=SLOW,
        memory_budget="1MiB",
    )  # fmt: skip
    with start(settings, KEY) as found:
        yield found


@pytest.fixture
def channel(live):
    with grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel:
        yield channel


def infer(samples=20):
    message = messages.ModelInferRequest(model_name="meter", raw_input_contents=[bytes(12)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.parameters["mc_samples"].int64_param = samples
    return message


METADATA = messages.ModelMetadataRequest(name="meter")


def begin(channel, name, message, *metadata, key=KEY, timeout=20):
    metadata = [*metadata, *([("x-api-key", key)] if key else [])]
    ask = channel.unary_unary(name if "/" in name else PREFIX + name)
    return ask.future(message.SerializeToString(), metadata=metadata, timeout=timeout)


def end(call):
    """The code that the caller gets, and the id."""
    headers = {item.key: item.value for item in call.initial_metadata()}
    return call.code().name, headers["x-request-id"]


@pytest.mark.parametrize("given", ["a", "order-17.2_b", "x" * 128])
def test_a_sane_id_is_taken(channel, given):
    call = begin(channel, "ModelMetadata", METADATA, ("x-request-id", given))
    assert end(call) == ("OK", given)


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", 'a"b', "<>"])
def test_any_other_is_replaced(channel, given):
    metadata = [] if given is None else [("x-request-id", given)]
    ids = {end(begin(channel, "ModelMetadata", METADATA, *metadata))[1] for _ in range(2)}
    assert len(ids) == 2
    assert all(map(MADE.fullmatch, ids))


@pytest.mark.parametrize(
    ("name", "message", "presented", "code"),
    [
        ("ModelMetadata", messages.ModelMetadataRequest(name="nope"), KNOWN, "NOT_FOUND"),
        ("ModelInfer", messages.ModelInferRequest(model_name="meter"), KNOWN, "INVALID_ARGUMENT"),
        ("ModelMetadata", METADATA, None, "UNAUTHENTICATED"),
        ("ModelMetadata", METADATA, UNKNOWN, "UNAUTHENTICATED"),
        ("RepositoryIndex", messages.RepositoryIndexRequest(), KNOWN, "PERMISSION_DENIED"),
        ("ModelConfig", messages.ModelConfigRequest(), KNOWN, "UNIMPLEMENTED"),
        ("ModelConfig", messages.ModelConfigRequest(), None, "UNAUTHENTICATED"),
        ("ServerLive", messages.ServerLiveRequest(), None, "OK"),
    ],
)
def test_errors_carry_it(channel, name, message, presented, code):
    key = {KNOWN: KEY, UNKNOWN: new_key()}.get(presented)
    call = begin(channel, name, message, ("x-request-id", "mine"), key=key)
    assert end(call) == (code, "mine")


@pytest.fixture
def written(caplog):
    """Records of calls of a method so far; waits for as many as should be there."""
    caplog.set_level(logging.INFO, logger="service.telemetry.access_log")

    def fields(method, count):
        def found():
            return [
                record.fields
                for record in caplog.records
                if record.name == "service.telemetry.access_log"
                and record.fields["method"] == method
            ]

        until(lambda: len(found()) >= count)
        assert len(found()) == count
        return found()

    return fields


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_is_one_record(channel, written, caplog):
    begin(channel, "ModelInfer", infer()).result()
    (fields,) = written(f"{PREFIX}ModelInfer", 1)
    assert sorted(fields) == ["client", "code", "duration_ms", "key", "method"]
    assert (fields["code"], fields["key"]) == ("OK", "alice")
    assert fields["duration_ms"] > 0
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields["client"])
    assert f'"{PREFIX}ModelInfer" OK, ' in caplog.text
    assert KEY not in caplog.text


def test_a_refusal_is_recorded_with_the_key_that_is_known(channel, written, caplog):
    wrong = new_key()
    for key in (SLOW_KEY, SLOW_KEY, wrong):
        begin(channel, "ModelInfer", infer(), key=key).code()
    taken, late, unknown = written(f"{PREFIX}ModelInfer", 3)
    assert (taken["code"], taken["key"]) == ("OK", "slow")
    assert (late["code"], late["key"]) == ("RESOURCE_EXHAUSTED", "slow")
    assert (unknown["code"], unknown.get("key")) == ("UNAUTHENTICATED", None)
    assert wrong not in caplog.text


def test_a_caller_who_goes_away_is_recorded(channel, live, written):
    pending = begin(channel, "ModelInfer", infer(SLOW))
    until(lambda: sum(worker.load() for worker in live.runtime.scheduler._workers) > 0)
    pending.cancel()
    assert written(f"{PREFIX}ModelInfer", 1)[0]["code"] == "CANCELLED"
    late = begin(channel, "ModelInfer", infer(SLOW), timeout=0.5)
    assert late.code().name == "DEADLINE_EXCEEDED"
    assert written(f"{PREFIX}ModelInfer", 2)[1]["code"] == "DEADLINE_EXCEEDED"


def test_what_callers_make_up_stays_on_its_line(channel, written, caplog):
    name = "/a\u2028b/" + "x" * 2000
    assert begin(channel, name, METADATA).code().name == "UNIMPLEMENTED"
    written(("/a%E2%80%A8b/" + "x" * 2000)[:1024], 1)
    assert all(len(message.splitlines()) == 1 for message in caplog.messages)


def test_probes_are_left_out_while_they_succeed(channel, caplog, written):
    for name in ("ServerLive", "ServerReady"):
        assert begin(channel, name, messages.ServerLiveRequest(), key=None).code().name == "OK"
    begin(channel, "ModelMetadata", METADATA).result()
    written(f"{PREFIX}ModelMetadata", 1)
    assert "ServerLive" not in caplog.text
    assert "ServerReady" not in caplog.text


def test_a_bug_is_internal_and_says_nothing_of_itself(start, repository, written, caplog):
    with (
        start(Settings(models=repository, device="cpu", grpc_port=0)) as broken,
        grpc.insecure_channel(f"127.0.0.1:{broken.app.state.grpc.port}") as channel,
    ):
        object.__setattr__(broken.runtime.registry.ready("meter"), "predictors", ())
        call = begin(channel, "ModelInfer", infer(), ("x-request-id", "mine"), key=None)
        assert end(call) == ("INTERNAL", "mine")
        assert call.details() == "the server failed on this request; its log says more"
    (fields,) = written(f"{PREFIX}ModelInfer", 1)
    assert (fields["code"], fields["key"]) == ("INTERNAL", "anyone")
    (failure,) = [record for record in caplog.records if record.exc_info]
    assert "gRPC" in failure.getMessage()


def test_all_that_is_logged_of_a_call_carries_its_id(spawn, repository):
    with spawn(repository, grpc_port=0, log_format="json") as server:
        port = server.find(r"grpc://127\.0\.0\.1:(\d+)")[1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            begin(channel, "ModelInfer", infer(), ("x-request-id", "mine")).result()
        server.process.send_signal(signal.SIGTERM)
        log = server.read_rest()
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    about = {"method": f"{PREFIX}ModelInfer", "code": "OK", "model": "meter", "version": 1}
    assert line | about == line


@pytest.fixture(scope="module")
def traced(start, repository):
    """A server with an exporter in this process; its collector is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    settings = Settings(models=repository, device="cpu", grpc_port=0, otel_endpoint=nowhere)
    with (
        start(settings) as live,
        grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel,
    ):
        exporter = InMemorySpanExporter()
        live.runtime.tracing.provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield channel, exporter


def spans_of(traced, count, name, message, *metadata):
    channel, exporter = traced
    exporter.clear()
    begin(channel, name, message, *metadata, key=None).code()
    until(lambda: len(exporter.get_finished_spans()) >= count)
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_call_is_a_span_of_the_caller_s_trace(traced):
    parent = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    spans = spans_of(traced, 3, "ModelInfer", infer(), parent, ("x-request-id", "mine"))
    assert set(spans) == {f"{PREFIX}ModelInfer"[1:], "queue", "compute"}
    root = spans[f"{PREFIX}ModelInfer"[1:]]
    assert root.kind is SpanKind.SERVER
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    about = {
        "rpc.system.name": "grpc",
        "rpc.method": f"{PREFIX}ModelInfer"[1:],
        "rpc.response.status_code": "OK",
        "mcdrop.model": "meter",
        "mcdrop.version": 1,
        "mcdrop.rows": 1,
        "mcdrop.samples": 20,
        "mcdrop.request_id": "mine",
    }
    assert dict(root.attributes) == about
    for name in ("queue", "compute"):
        assert spans[name].parent.span_id == root.context.span_id


@pytest.mark.parametrize(
    ("name", "message", "code", "status"),
    [
        ("ModelMetadata", messages.ModelMetadataRequest(name="nope"), "NOT_FOUND", "UNSET"),
        ("ModelMetadata", messages.ModelMetadataRequest(name="broken"), "UNAVAILABLE", "ERROR"),
    ],
)
def test_whose_fault_an_error_is(traced, name, message, code, status):
    (span,) = spans_of(traced, 1, name, message).values()
    assert span.attributes["rpc.response.status_code"] == code
    assert span.status.status_code is StatusCode[status]
    assert not span.events


def test_what_callers_make_up_names_no_span(traced):
    (span,) = spans_of(traced, 1, "/made/up", METADATA).values()
    assert (span.name, span.attributes["rpc.method"]) == ("grpc", "_OTHER")
    assert span.attributes["rpc.method_original"] == "made/up"


def test_probes_are_not_traced(traced):
    channel, _ = traced
    begin(channel, "ServerLive", messages.ServerLiveRequest(), key=None).result()
    assert set(spans_of(traced, 1, "ModelMetadata", METADATA)) == {f"{PREFIX}ModelMetadata"[1:]}
