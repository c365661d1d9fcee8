"""The model repository extension over gRPC, by NVIDIA's own client."""

import shutil
import time

import numpy as np
import pytest

from service import Settings
from service.access.keys import KeyScope, key_entry, new_key

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")

from tritonclient.grpc import service_pb2 as theirs  # noqa: E402
from tritonclient.utils import InferenceServerException  # noqa: E402

MANAGEMENT = [
    ("RepositoryIndex", theirs.RepositoryIndexRequest(), "/v2/repository/index"),
    (
        "RepositoryModelLoad",
        theirs.RepositoryModelLoadRequest(model_name="shapes"),
        "/v2/repository/models/shapes/load",
    ),
    (
        "RepositoryModelUnload",
        theirs.RepositoryModelUnloadRequest(model_name="shapes"),
        "/v2/repository/models/shapes/unload",
    ),
]
by_name = pytest.mark.parametrize(
    ("name", "message", "path"), MANAGEMENT, ids=[name for name, *_ in MANAGEMENT]
)


@pytest.fixture
def models(repository, tmp_path):
    for name in ("shapes", "meter"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.rmtree(tmp_path / "shapes" / "3")
    return tmp_path


@pytest.fixture
def live(start, models, admin):
    settings = Settings(
        models=models, device="cpu", watch_seconds=0, api_keys=admin.path, grpc_port=0
    )
    with start(settings, admin.key) as found:
        yield found


class Client:
    """NVIDIA's client, with a key on every call."""

    def __init__(self, live, key):
        self.client = triton.InferenceServerClient(f"127.0.0.1:{live.app.state.grpc.port}")
        self.headers = {"authorization": f"Bearer {key}"}

    def __getattr__(self, name):
        def call(*arguments, **options):
            return getattr(self.client, name)(*arguments, headers=self.headers, **options)

        return call


@pytest.fixture
def client(live, admin):
    client = Client(live, admin.key)
    yield client
    client.client.close()


def call(live, name, message, *metadata):
    with grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel:
        ask = channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}",
            request_serializer=lambda message: message.SerializeToString(),
        )
        return ask(message, metadata=metadata, timeout=20)


def refusal(live, name, message, *metadata):
    with pytest.raises(grpc.RpcError) as error:
        call(live, name, message, *metadata)
    return error.value.code().name, error.value.details()


def predict(client):
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    return client.infer("shapes", [tensor]).get_response().model_version


def test_the_index_is_that_of_rest(client, live, models, repository):
    shutil.copytree(repository / "broken" / "1", models / "meter" / "2")
    live.client.post("/v1/repository/reload")
    said = live.client.post("/v2/repository/index").json()
    assert [entry["state"] for entry in said] == ["UNAVAILABLE", "READY", "READY", "READY"]
    index = client.get_model_repository_index()
    found = [
        {"name": m.name, "version": m.version, "state": m.state, "reason": m.reason}
        for m in index.models
    ]
    assert found == said
    request = theirs.RepositoryIndexRequest(ready=True)
    key = ("authorization", client.headers["authorization"])
    answer = call(live, "RepositoryIndex", request, key)
    ready = theirs.RepositoryIndexResponse.FromString(answer)
    assert [entry.state for entry in ready.models] == ["READY"] * 3


def test_unload_and_load(client):
    client.unload_model("shapes")
    assert not client.is_model_ready("shapes")
    with pytest.raises(InferenceServerException, match=r"UNAVAILABLE.*unloaded"):
        predict(client)
    client.load_model("shapes")
    assert client.is_model_ready("shapes", "2")
    assert predict(client) == "2"


def test_a_load_that_fails_says_why_and_takes_nothing_away(client, models, repository):
    shutil.copytree(repository / "broken" / "1", models / "shapes" / "3")
    said = "FAILED_PRECONDITION.*failed to load 'shapes' version 3.*version 2 goes on answering"
    with pytest.raises(InferenceServerException, match=said):
        client.load_model("shapes")
    assert predict(client) == "2"


@pytest.mark.parametrize(
    "given",
    [{"config": '{"backend": "python"}'}, {"config": "{}", "files": {"file:1/model.py": b"x"}}],
)
def test_nothing_is_taken_from_a_request(client, given):
    said = "INVALID_ARGUMENT.*load takes no parameters, got '(config|file:1/model.py)'"
    with pytest.raises(InferenceServerException, match=said):
        client.load_model("shapes", **given)
    assert predict(client) == "2"


def test_unload_takes_what_clients_send_and_no_more(client, live):
    message = theirs.RepositoryModelUnloadRequest(model_name="shapes")
    message.parameters["file:1/x"].bytes_param = b"x"
    key = ("authorization", client.headers["authorization"])
    code, said = refusal(live, "RepositoryModelUnload", message, key)
    assert (code, "'file:1/x'" in said) == ("INVALID_ARGUMENT", True)
    client.unload_model("shapes", unload_dependents=True)
    assert not client.is_model_ready("shapes")


@pytest.mark.parametrize("name", ["", "nope", "..", "../shapes"])
def test_what_is_not_there(client, name):
    for manage in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match=f"NOT_FOUND.*no model '{name}'"):
            manage(name)


@by_name
def test_there_is_one_repository(live, admin, name, message, path):
    other = type(message)()
    other.CopyFrom(message)
    other.repository_name = "shapes"  # where KServe's own messages have the model's name
    code, said = refusal(live, name, other, ("x-api-key", admin.key))
    assert (code, "leave repository_name empty; got 'shapes'" in said) == ("INVALID_ARGUMENT", True)


@by_name
def test_an_admin_key_is_asked_for(start, repository, tmp_path, name, message, path):
    reader, keys = new_key(), tmp_path / "keys.toml"
    keys.write_text(key_entry("reader", reader, KeyScope.READ, None, None))
    keys.chmod(0o600)
    settings = Settings(models=repository, device="cpu", api_keys=keys, grpc_port=0, warmup_rows=0)
    with start(settings) as live:
        assert refusal(live, name, message)[0] == "UNAUTHENTICATED"
        code, said = refusal(live, name, message, ("x-api-key", reader))
        over_http = live.client.post(path, headers={"x-api-key": reader})
    assert (code, said) == ("PERMISSION_DENIED", over_http.json()["error"])
    assert "scope admin" in said


@by_name
def test_without_keys_management_is_off(start, repository, name, message, path):
    settings = Settings(models=repository, device="cpu", grpc_port=0, warmup_rows=0)
    with start(settings) as live:
        code, said = refusal(live, name, message)
        over_http = live.client.post(path)
        assert live.runtime.registry.find("shapes").state == "ready"
    assert (code, said) == ("PERMISSION_DENIED", over_http.json()["error"])
    assert said.startswith("management is off")


def test_a_caller_who_goes_away_leaves_nothing_half_loaded(client, live):
    client.unload_model("shapes")
    registry = live.runtime.registry
    with grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel:
        load = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
        message = theirs.RepositoryModelLoadRequest(model_name="shapes").SerializeToString()
        key = ("authorization", client.headers["authorization"])
        pending = load.future(message, metadata=(key,))
        until(lambda: any(version.state == "loading" for version in registry.versions("shapes")))
        assert pending.cancel()
    until(lambda: all(version.state == "ready" for version in registry.versions("shapes")))
    client.load_model("shapes")  # and whoever comes next gets a turn


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
