"""gRPC: NVIDIA's own client and bare channels against real servers."""

import filecmp
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import mcdrop
from service import Settings
from service.access.keys import KeyScope, key_entry, new_key

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")

from tritonclient.grpc import service_pb2 as theirs  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

from service.grpc import inference_pb2 as ours  # noqa: E402
from service.grpc.calls import _address  # noqa: E402

ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]], np.float32)
RAW = (ROWS.tobytes(),)
SLOW = 10**8  # samples


@pytest.fixture(scope="module")
def server(repository, start):
    settings = Settings(
        models=repository, device="cpu", max_rows=8, max_samples=SLOW, grpc_port=0, queue_size=1,
        max_body_bytes="64KiB", memory_budget="1MiB",
    )  # fmt: skip
    with start(settings) as live:
        yield live


@pytest.fixture(scope="module")
def port(server):
    return server.app.state.grpc.port


@pytest.fixture(scope="module")
def client(port):
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


@pytest.fixture
def infer(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield call(channel, "ModelInfer", theirs.ModelInferResponse)


def call(channel, name, answer):
    return channel.unary_unary(
        f"/inference.GRPCInferenceService/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def given(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def request(model="shapes", raw=RAW, **more):
    message = theirs.ModelInferRequest(model_name=model, raw_input_contents=raw, **more)
    if not message.inputs:
        message.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    return message


def slow(seed=0):
    message = request()
    message.parameters["mc_samples"].int64_param = SLOW
    message.parameters["mc_seed"].int64_param = seed
    return message


def load(server):
    """Row-samples that are asked for and not yet taken."""
    return sum(worker.load() for worker in server.runtime.scheduler._workers)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("shapes")
    assert client.is_model_ready("shapes", "1")
    assert not client.is_model_ready("broken")
    server = client.get_server_metadata()
    assert (server.name, list(server.extensions)) == (
        "mcdrop",
        ["binary_tensor_data", "model_repository"],
    )


def test_metadata_are_those_of_rest(client, server):
    said = server.client.get("/v2/models/tags").json()
    got = client.get_model_metadata("tags", as_json=True)
    for tensor in got["inputs"] + got["outputs"]:
        tensor["shape"] = [int(size) for size in tensor["shape"]]
    assert got == said


def test_infer(client, repository):
    asked = ["mutual_information", "mean", "samples"]
    result = client.infer(
        "shapes",
        [given("x", ROWS, "FP32")],
        model_version="1",
        outputs=[triton.InferRequestedOutput(name) for name in asked],
        request_id="abc",
        parameters={"mc_samples": 25, "mc_seed": 9},
    )
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("abc", "shapes", "1")
    assert [output.name for output in answer.outputs] == asked
    expected = mcdrop.load(repository / "shapes" / "1").predict(
        torch.from_numpy(ROWS), samples=25, seed=9
    )
    for name in asked:
        array = result.as_numpy(name)
        np.testing.assert_allclose(array, expected.fields()[name].numpy(), rtol=1e-5, atol=1e-7)
    assert result.as_numpy("samples").dtype == np.int64


def test_all_outputs_of_two_inputs_in_any_order(client):
    inputs = [given("ids", np.array([[1, 2, 3], [4, 5, 6]]), "INT64"), given("x", ROWS, "FP32")]
    result = client.infer("pair", inputs)
    names = [output.name for output in client.get_model_metadata("pair").outputs]
    assert [output.name for output in result.get_response().outputs] == names
    np.testing.assert_allclose(result.as_numpy("mean").sum(1), 1, rtol=1e-5)


def test_typed_contents(infer):
    raw = infer(request())
    typed = request(raw=())
    typed.inputs[0].contents.fp32_contents.extend(ROWS.reshape(-1).tolist())
    answer = infer(typed)
    assert answer.outputs == raw.outputs
    for got, wanted in zip(answer.raw_output_contents, raw.raw_output_contents, strict=True):
        np.testing.assert_allclose(
            np.frombuffer(got[:24], "<f4"), np.frombuffer(wanted[:24], "<f4"), rtol=1e-4, atol=1e-6
        )


def test_a_tolerance_is_a_double(client):
    result = client.infer(
        "shapes",
        [given("x", ROWS, "FP32")],
        parameters={"mc_tolerance": 10.0, "mc_samples": 500},
    )
    assert result.as_numpy("samples").tolist() == [64, 64]


def test_half_precision_is_raw_only(client, infer):
    import ml_dtypes

    rows = ROWS.astype(ml_dtypes.bfloat16)
    result = client.infer("brain", [given("x", rows, "BF16")])
    assert np.isfinite(result.as_numpy("mean")).all()
    message = theirs.ModelInferRequest(model_name="brain")
    tensor = message.inputs.add(name="x", datatype="BF16", shape=[2, 4])
    tensor.contents.fp32_contents.extend([0.0] * 8)
    with pytest.raises(grpc.RpcError) as error:
        infer(message)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "raw_input_contents" in error.value.details()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(client, algorithm):
    result = client.infer("shapes", [given("x", ROWS, "FP32")], compression_algorithm=algorithm)
    assert result.as_numpy("mean").shape == (2, 3)


def changed(change, **more):
    message = request(**more)
    change(message)
    return message


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (request(model="nope"), "NOT_FOUND", "no model 'nope'"),
        (request(model="broken"), "UNAVAILABLE", "unavailable"),
        (request(model_version="9"), "NOT_FOUND", "no version 9"),
        (request(model_version="one"), "INVALID_ARGUMENT", "'one'"),
        (request(model_version="-1"), "INVALID_ARGUMENT", "'-1'"),
        (request(raw=(b"\0" * 31,)), "INVALID_ARGUMENT", "needs 32 bytes; got 31"),
        (request(raw=(b"\0" * 32, b"")), "INVALID_ARGUMENT", "expected 1, got 2"),
        (request(raw=()), "INVALID_ARGUMENT", "in contents.fp32_contents"),
        (request(raw=(np.full(8, np.nan, "<f4").tobytes(),)), "INVALID_ARGUMENT", "not a finite"),
        (
            changed(lambda m: m.inputs[0].contents.fp32_contents.append(1)),
            "INVALID_ARGUMENT",
            "both contents and raw_input_contents",
        ),
        (
            changed(lambda m: m.inputs[0].contents.fp64_contents.extend([1] * 8), raw=()),
            "INVALID_ARGUMENT",
            "got fp64_contents",
        ),
        (
            changed(lambda m: m.inputs[0].contents.fp32_contents.extend([1] * 7), raw=()),
            "INVALID_ARGUMENT",
            "needs 8 values",
        ),
        (
            changed(lambda m: m.inputs[0].contents.fp32_contents.extend([np.inf] * 8), raw=()),
            "INVALID_ARGUMENT",
            "inf, outside the range",
        ),
        (
            changed(lambda m: setattr(m.inputs[0], "datatype", "FP64")),
            "INVALID_ARGUMENT",
            "has the datatype FP32",
        ),
        (
            changed(lambda m: m.inputs[0].shape.__setitem__(1, -4)),
            "INVALID_ARGUMENT",
            r"expected shape \[rows, 4\]",
        ),
        (
            changed(lambda m: m.inputs[0].shape.__setitem__(0, 2**62)),
            "INVALID_ARGUMENT",
            r"expected shape|bytes",
        ),
        (changed(lambda m: m.outputs.add(name="mode")), "INVALID_ARGUMENT", "no output 'mode'"),
        (
            changed(lambda m: m.parameters["mc_samples"].SetInParent()),
            "OK",
            "",
        ),
        (
            changed(lambda m: setattr(m.parameters["mc_samples"], "bool_param", True)),
            "INVALID_ARGUMENT",
            "'mc_samples' is a whole number",
        ),
        (
            changed(lambda m: setattr(m.parameters["mc_sampels"], "int64_param", 1)),
            "INVALID_ARGUMENT",
            "no parameter 'mc_sampels'",
        ),
    ],
)
def test_status_codes(infer, message, code, said):
    if code == "OK":
        assert infer(message, timeout=20).outputs
        return
    with pytest.raises(grpc.RpcError) as error:
        infer(message, timeout=20)
    assert error.value.code() == grpc.StatusCode[code]
    assert re.search(said, error.value.details())
    trailing = {item.key: item.value for item in error.value.trailing_metadata()}
    assert trailing.get("retry-after") == ("1" if code == "UNAVAILABLE" else None)


def test_what_is_not_there_is_unimplemented(client):
    with pytest.raises(InferenceServerException, match=r"UNIMPLEMENTED.*ModelConfig.*ModelInfer,"):
        client.get_model_config("shapes")


def test_a_stream_is_refused_without_waiting_for_a_message(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        never = threading.Event()
        refused = stream(iter(never.wait, True), timeout=20)
        assert refused.code() == grpc.StatusCode.UNIMPLEMENTED
        never.set()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_large_messages_are_refused_compressed_or_not(client, compression):
    zeros = np.zeros((100_000, 4), np.float32)
    with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
        client.infer("shapes", [given("x", zeros, "FP32")], compression_algorithm=compression)


def test_a_full_queue_says_when_to_come_again(server, port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = call(channel, "ModelInfer", theirs.ModelInferResponse)
        done = queue.Queue()
        pending = [ask.future(slow(seed)) for seed in range(8)]
        try:
            for one in pending:
                one.add_done_callback(done.put)
            refused = done.get(timeout=20).exception()
            assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            trailing = {item.key: item.value for item in refused.trailing_metadata()}
            assert trailing["retry-after"] == "1"
        finally:
            for one in pending:
                one.cancel()
        until(lambda: load(server) == 0)


def test_a_cancelled_call_frees_the_device(server, port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        pending = call(channel, "ModelInfer", theirs.ModelInferResponse).future(slow())
        until(lambda: load(server) > 0)
        pending.cancel()
        until(lambda: load(server) == 0)


def test_a_deadline_that_passes_frees_the_device(server, infer):
    with pytest.raises(grpc.RpcError) as error:
        infer(slow(), timeout=0.5)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: load(server) == 0)


def test_a_client_that_vanishes_frees_the_device(server, port):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    pending = call(channel, "ModelInfer", theirs.ModelInferResponse).future(slow())
    until(lambda: load(server) > 0)
    channel.close()
    until(lambda: load(server) == 0)
    assert pending.done()  # and kept until here: a call that is forgotten is cancelled


KEY, SLOW_KEY = new_key(), new_key()


@pytest.fixture(scope="module")
def locked(repository, start, tmp_path_factory):
    """Calls a server that has keys: `locked("ModelInfer", message, answer, **metadata)`."""
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    entries = (("reader", KEY, None, None), ("slow", SLOW_KEY, 0.01, 2))
    path.write_text(
        "".join(
            key_entry(name, key, KeyScope.READ, rate, burst) for name, key, rate, burst in entries
        )
    )
    path.chmod(0o600)
    settings = Settings(models=repository, device="cpu", api_keys=path, grpc_port=0)
    with (
        start(settings) as live,
        grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel,
    ):

        def ask(name, message, answer, *metadata):
            return call(channel, name, answer)(message, metadata=metadata, timeout=20)

        yield ask


def code_of(ask, *arguments):
    with pytest.raises(grpc.RpcError) as error:
        ask(*arguments)
    return error.value.code()


BEHIND_KEYS = [
    ("ModelInfer", request(), theirs.ModelInferResponse),
    ("ModelReady", theirs.ModelReadyRequest(name="shapes"), theirs.ModelReadyResponse),
    ("ModelMetadata", theirs.ModelMetadataRequest(name="shapes"), theirs.ModelMetadataResponse),
    ("ServerMetadata", theirs.ServerMetadataRequest(), theirs.ServerMetadataResponse),
]


@pytest.mark.parametrize("asked", BEHIND_KEYS, ids=[name for name, *_ in BEHIND_KEYS])
def test_keys_are_asked_for_as_over_http(locked, asked):
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert code_of(locked, *asked) == unauthenticated
    assert code_of(locked, *asked, ("x-api-key", new_key())) == unauthenticated
    assert code_of(locked, *asked, ("authorization", f"Basic {KEY}")) == unauthenticated
    locked(*asked, ("x-api-key", KEY))
    locked(*asked, ("authorization", f"Bearer {KEY}"))


def test_health_needs_no_key(locked):
    assert locked("ServerLive", theirs.ServerLiveRequest(), theirs.ServerLiveResponse).live
    assert locked("ServerReady", theirs.ServerReadyRequest(), theirs.ServerReadyResponse).ready


def test_a_key_s_rate_counts_predictions(locked):
    key = ("x-api-key", SLOW_KEY)
    infer = BEHIND_KEYS[0]
    for _ in range(2):
        locked(*infer, key)
    with pytest.raises(grpc.RpcError) as error:
        locked(*infer, key)
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = {item.key: item.value for item in error.value.trailing_metadata()}
    assert int(trailing["retry-after"]) > 1
    locked(*BEHIND_KEYS[1], key)  # not a prediction


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("unix:", "")],
)
def test_the_address_that_a_rate_counts(peer, address):
    assert _address(peer) == address


def test_a_message_that_is_none(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert code_of(ask, b"\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT


def grpc_port(process):
    """Its port, from the log."""
    return int(process.find(r"listening on grpc://127\.0\.0\.1:(\d+)")[1])


def test_a_stop_finishes_the_calls_that_have_begun(spawn, repository):
    with (
        spawn(repository, grpc_port=0, drain_seconds=120) as process,
        triton.InferenceServerClient(f"127.0.0.1:{grpc_port(process)}") as client,
    ):
        rows = np.tile(ROWS, (64, 1))
        answers = []
        done = threading.Event()

        def took(result, error):
            answers.append(error or result)
            if len(answers) == 12:
                done.set()

        for seed in range(12):
            client.async_infer(
                "shapes", [given("x", rows, "FP32")], took,
                parameters={"mc_samples": 2000, "mc_seed": seed},
            )  # fmt: skip
        while not answers:
            time.sleep(0.01)
        process.process.send_signal(signal.SIGTERM)
        assert done.wait(120)
        log = process.read_rest()
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert process.process.returncode == 0, log
    assert "Traceback" not in log


def test_calls_that_outlast_the_stop_end_with_it(spawn, repository):
    settings = {"grpc_port": 0, "drain_seconds": 1, "max_samples": SLOW, "memory_budget": "1MiB"}
    with (
        spawn(repository, **settings) as process,
        grpc.insecure_channel(f"127.0.0.1:{grpc_port(process)}") as channel,
    ):
        pending = call(channel, "ModelInfer", theirs.ModelInferResponse).future(slow())
        time.sleep(0.5)
        assert not pending.done()
        process.process.send_signal(signal.SIGTERM)
        error = pending.exception(timeout=20)
        log = process.read_rest()
    assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert process.process.returncode == 0, log
    assert "Traceback" not in log


def test_a_port_that_is_taken_stops_the_start_with_one_line(repository, port):
    result = begin(repository, port)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}.*set MCDROP_GRPC_PORT", result.stderr)


def test_without_grpcio_the_start_says_what_to_install(repository):
    result = begin(repository, 0, prelude="sys.modules['grpc'] = None")
    assert result.returncode == 1
    assert "MCDROP_GRPC_PORT is set, and gRPC needs grpcio" in result.stderr
    assert "pip install 'mcdrop[grpc]'" in result.stderr
    assert result.stderr.count("\n") == 1


def begin(repository, port, prelude=""):
    code = f"import sys; {prelude}\nfrom service.__main__ import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "MCDROP_MODELS": str(repository),
            "MCDROP_DEVICE": "cpu",
            "MCDROP_PORT": "0",
            "MCDROP_GRPC_PORT": str(port),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_there_is_no_grpc_unless_a_port_is_set(live):
    assert live.app.state.grpc is None


def describe(message):
    fields = [
        (field.number, field.name, field.type, field.is_repeated,
         getattr(field.message_type, "name", None), getattr(field.containing_oneof, "name", None))
        for field in message.fields
    ]  # fmt: skip
    nested = {inner.name: describe(inner) for inner in message.nested_types}
    return sorted(fields), nested


@pytest.mark.parametrize("name", list(ours.DESCRIPTOR.message_types_by_name))
def test_messages_are_those_of_the_protocol(name):
    our, their = ours.DESCRIPTOR, theirs.DESCRIPTOR
    assert describe(our.message_types_by_name[name]) == describe(their.message_types_by_name[name])


def test_generated_files_are_up_to_date(tmp_path):
    pytest.importorskip("grpc_tools")
    root = Path(__file__).parents[3]
    source = "service/grpc/inference.proto"
    command = ["grpc_tools.protoc", "-I", str(root), f"--python_out={tmp_path}"]
    command += [f"--pyi_out={tmp_path}", source]
    subprocess.run([sys.executable, "-m", *command], check=True, cwd=root)
    for name in ("inference_pb2.py", "inference_pb2.pyi"):
        folder = Path("service/grpc")
        assert filecmp.cmp(root / folder / name, tmp_path / folder / name, shallow=False)
