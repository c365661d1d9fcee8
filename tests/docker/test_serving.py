"""What an operator adds to the image: metrics, keys, gRPC, traces, models that come and go."""

import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from service.access.keys import KeyScope, key_entry, new_key
from tests.docker.conftest import OURS, free_port
from tests.docker.container import ADDRESS, call

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROW = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0]
BODY = {"inputs": [ROW], "samples": 32, "seed": 0}
PREDICT = "/v1/models/diabetes/predict"


def status(url, **headers):
    try:
        call(url, **headers)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def write_keys(path, mode=0o440, **keys):
    """A keys file; by default as a Kubernetes secret with fsGroup and defaultMode 0440 is."""
    text = "".join(key_entry(name, key, KeyScope.ADMIN, None, None) for name, key in keys.items())
    with path.open("w") as file:  # in place: the inode stays
        file.write(text)
    os.chown(path, 0, OURS)
    path.chmod(mode)


def test_metrics_answer_and_count(start):
    container = start()
    container.wait_until_healthy()
    call(container.url + PREDICT, BODY)
    with urllib.request.urlopen(f"{container.url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    assert 'nv_inference_request_success{model="diabetes",version="1"} 1.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_it_warns_until_keys_are_mounted(start, tmp_path):
    container = start()
    container.wait_until_healthy()
    assert "whoever reaches 0.0.0.0 may predict" in container.log()

    key, path = new_key(), tmp_path / "keys.toml"
    write_keys(path, alice=key)
    locked = start(volumes={"/keys.toml": path}, settings={"MCDROP_API_KEYS": "/keys.toml"})
    locked.wait_until_healthy()  # without a key
    models = f"{locked.url}/v1/models"
    assert (status(models), status(models, x_api_key=new_key())) == (401, 401)
    assert (status(models, x_api_key=key), status(models, authorization=f"Bearer {key}")) == (
        200,
        200,
    )
    assert "may predict" not in locked.log()
    assert "chmod" not in locked.log()


def test_a_file_mounted_alone_is_edited_in_place(start, tmp_path):
    first, second, third, path = new_key(), new_key(), new_key(), tmp_path / "keys.toml"
    write_keys(path, 0o640, first=first)
    container = start(volumes={"/keys.toml": path}, settings={"MCDROP_API_KEYS": "/keys.toml"})
    container.wait_until_healthy()
    assert "chmod" not in container.log()
    models = f"{container.url}/v1/models"
    write_keys(path, 0o640, first=first, second=second)
    until(lambda: status(models, x_api_key=second) == 200)
    write_keys(tmp_path / "new", third=third)
    (tmp_path / "new").replace(path)  # as editors do
    time.sleep(3)
    assert (status(models, x_api_key=third), status(models, x_api_key=second)) == (401, 200)


def test_a_folder_of_keys_may_be_changed_either_way(start, tmp_path):
    first, second, folder = new_key(), new_key(), tmp_path / "secret"
    folder.mkdir()
    write_keys(folder / "keys.toml", first=first)
    settings = {"MCDROP_API_KEYS": "/secret/keys.toml"}
    container = start(volumes={"/secret": folder}, settings=settings)
    container.wait_until_healthy()
    write_keys(tmp_path / "new", second=second)
    (tmp_path / "new").replace(folder / "keys.toml")
    until(lambda: status(f"{container.url}/v1/models", x_api_key=second) == 200)
    assert status(f"{container.url}/v1/models", x_api_key=first) == 401


def test_a_keys_file_that_others_may_read_is_warned_of(start, tmp_path):
    write_keys(tmp_path / "keys.toml", 0o644, alice=new_key())
    settings = {"MCDROP_API_KEYS": "/keys.toml"}
    container = start(volumes={"/keys.toml": tmp_path / "keys.toml"}, settings=settings)
    container.wait_until_healthy()
    assert "may be read or written by other users" in container.log()


def test_a_keys_file_of_somebody_else_is_one_line(start, tmp_path):
    write_keys(tmp_path / "keys.toml", 0o600, alice=new_key())  # as `mcdrop key` makes it
    os.chown(tmp_path / "keys.toml", 54321, 54321)
    settings = {"MCDROP_API_KEYS": "/keys.toml"}
    mounted = {"volumes": {"/keys.toml": tmp_path / "keys.toml"}, "settings": settings}
    container = start(**mounted)
    assert container.wait() == 1
    assert container.log() == "mcdrop: keys file '/keys.toml': Permission denied\n"
    start(**mounted, user="54321:54321").wait_until_healthy()


def test_grpc_answers_where_a_port_is_set(start):
    triton = pytest.importorskip("tritonclient.grpc")
    port = free_port()
    container = start(settings={"MCDROP_GRPC_PORT": port})
    container.wait_until_healthy()
    direct = [("grpc.enable_http_proxy", 0)]
    with triton.InferenceServerClient(f"{ADDRESS}:{port}", channel_args=direct) as client:
        assert client.is_server_ready()
        tensor = triton.InferInput("features", [1, 10], "FP32")
        tensor.set_data_from_numpy(np.array([ROW], np.float32))
        asked = {"mc_samples": 32, "mc_seed": 0}
        mean = client.infer("diabetes", [tensor], parameters=asked).as_numpy("mean")
    over_http = call(container.url + PREDICT, BODY)["outputs"]["mean"]
    np.testing.assert_allclose(mean, over_http, rtol=1e-4)
    assert container.stop(signal.SIGTERM) == 0, container.log()


def test_traces_reach_a_collector(start):
    paths = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            paths.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            container = start(settings={"MCDROP_OTEL_ENDPOINT": url, "NO_PROXY": "127.0.0.1"})
            container.wait_until_healthy()
            call(container.url + PREDICT, BODY)
            assert container.stop(signal.SIGTERM) == 0, container.log()
        finally:
            server.shutdown()
            thread.join(10)
    assert set(paths) == {"/v1/traces"}


def test_a_read_only_models_folder_is_kept_up_with(start, root, tmp_path):
    models, keys, key = tmp_path / "models", tmp_path / "keys.toml", new_key()
    shutil.copytree(root / "models/diabetes", models / "diabetes")
    write_keys(keys, operator=key)
    container = start(
        volumes={"/models": models, "/keys.toml": keys},
        settings={"MCDROP_WATCH_SECONDS": 0.5, "MCDROP_API_KEYS": "/keys.toml"},
    )
    container.wait_until_healthy()
    shutil.copytree(models / "diabetes/1", tmp_path / "2")
    (tmp_path / "2").replace(models / "diabetes/2")
    answering = f"{container.url}/v2/models/diabetes/versions/2/ready"
    until(lambda: status(answering, x_api_key=key) == 200)
    repository = f"{container.url}/v1/repository"
    pinned = call(f"{repository}/diabetes/pin", {"version": 1}, x_api_key=key)
    assert (pinned["version"], pinned["on_disk"]) == (1, False)
    shutil.rmtree(models / "diabetes/2")
    until(lambda: status(answering, x_api_key=key) == 404)
    state = call(repository, x_api_key=key)
    assert state["problem"] is None
    assert state["looked_at"] is not None
    assert "Traceback" not in container.log()


def test_a_stop_while_models_are_read_is_clean(start):
    container = start()
    container.wait_for("Application startup complete")
    assert container.stop(signal.SIGTERM) == 0, container.log()
    assert container.log().endswith("stopped\n")
