"""The protocol's model repository extension: as it is on the wire, and by NVIDIA's own client."""

import shutil

import numpy as np
import pytest

from service import Settings

BODY = {"inputs": [[0.1, -0.2, 0.3, 0.4]]}


@pytest.fixture
def models(repository, tmp_path):
    for name in ("shapes", "meter"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.rmtree(tmp_path / "shapes" / "3")
    return tmp_path


@pytest.fixture
def live(start, models, admin):
    settings = Settings(
        models=models, device="cpu", watch_seconds=0.1, warmup_rows=0, api_keys=admin.path
    )
    with start(settings, admin.key) as found:
        yield found


def test_the_index_takes_no_body_and_a_filter(live, models, repository):
    shutil.copytree(repository / "broken" / "1", models / "meter" / "2")
    live.client.post("/v1/repository/reload")
    everything = live.client.post("/v2/repository/index")
    assert everything.status_code == 200
    entries = [(e["name"], e["version"], e["state"]) for e in everything.json()]
    assert entries == [
        ("meter", "2", "UNAVAILABLE"), ("meter", "1", "READY"),
        ("shapes", "2", "READY"), ("shapes", "1", "READY"),
    ]  # fmt: skip
    assert "SHA-256" in everything.json()[0]["reason"]
    assert everything.json()[1]["reason"] == ""
    ready = live.client.post("/v2/repository/index", json={"ready": True}).json()
    assert len(ready) == 3
    assert live.client.post("/v2/repository/index", json={}).json() == everything.json()


def test_unload_and_load(live):
    assert live.client.post("/v2/repository/models/shapes/unload").json() == {}
    refused = live.client.post("/v1/models/shapes/predict", json=BODY)
    assert refused.status_code == 503
    assert "unloaded" in refused.json()["detail"]
    assert live.client.get("/v2/models/shapes/ready").status_code == 503
    assert live.client.get("/v2/models/meter/ready").status_code == 200
    loaded = live.client.post("/v2/repository/models/shapes/load")
    assert (loaded.status_code, loaded.json()) == (200, {})
    assert live.client.post("/v1/models/shapes/predict", json=BODY).json()["version"] == 2


def test_a_load_that_fails_says_why_and_takes_nothing_away(live, models, repository):
    shutil.copytree(repository / "broken" / "1", models / "shapes" / "3")
    failed = live.client.post("/v2/repository/models/shapes/load")
    assert failed.status_code == 400
    assert list(failed.json()) == ["error"]
    assert "failed to load 'shapes' version 3" in failed.json()["error"]
    assert "version 2 goes on answering" in failed.json()["error"]
    assert live.client.post("/v1/models/shapes/predict", json=BODY).json()["version"] == 2
    live.client.post("/v1/repository/shapes/pin", json={"version": 1})
    assert live.client.post("/v2/repository/models/shapes/load").status_code == 200


@pytest.mark.parametrize("name", ["nope", "..", "%2e%2e%2fshapes", ".hidden"])
@pytest.mark.parametrize("verb", ["load", "unload"])
def test_what_is_not_there(live, name, verb):
    response = live.client.post(f"/v2/repository/models/{name}/{verb}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("load", {"config": "{}"}),
        ("load", {"file:1/model.onnx": "AAAA"}),
        ("load", {"anything": 1}),
        ("unload", {"file:1/x": "AAAA"}),
    ],
)
def test_nothing_is_taken_from_a_request(live, verb, parameters):
    path = f"/v2/repository/models/shapes/{verb}"
    response = live.client.post(path, json={"parameters": parameters})
    assert response.status_code == 400
    assert next(iter(parameters)) in response.json()["error"]
    assert live.client.post("/v1/models/shapes/predict", json=BODY).status_code == 200


def test_a_body_that_is_no_json_is_400(live):
    for path in ("index", "models/shapes/load", "models/shapes/unload"):
        assert live.client.post(f"/v2/repository/{path}", content=b"{").status_code == 400
        assert live.client.post(f"/v2/repository/{path}", json=[]).status_code == 400


def test_tritonclient(live, models, repository, admin):
    http = pytest.importorskip("tritonclient.http")
    from tritonclient.utils import InferenceServerException

    class WithKey(http.InferenceServerClientPlugin):
        def __call__(self, request):
            request.headers["x-api-key"] = admin.key

    with http.InferenceServerClient(f"127.0.0.1:{live.port}") as client:
        client.register_plugin(WithKey())
        index = client.get_model_repository_index()
        assert {entry["state"] for entry in index} == {"READY"}
        assert "model_repository" in client.get_server_metadata()["extensions"]
        client.unload_model("shapes")
        assert not client.is_model_ready("shapes")
        by_name = {(e["name"], e["version"]): e for e in client.get_model_repository_index()}
        assert by_name["shapes", "2"]["state"] == "UNAVAILABLE"
        assert by_name["shapes", "2"]["reason"] == "unloaded"
        client.load_model("shapes")
        assert client.is_model_ready("shapes", "2")
        tensor = http.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.array(BODY["inputs"], np.float32), binary_data=False)
        asked = [http.InferRequestedOutput("mean", binary_data=False)]
        assert client.infer("shapes", [tensor], outputs=asked).as_numpy("mean").shape == (1, 3)
        shutil.copytree(repository / "broken" / "1", models / "shapes" / "3")
        for refused in ({"config": "{}"}, {"config": "{}", "files": {"file:1/x": b"x"}}, {}):
            with pytest.raises(InferenceServerException):
                client.load_model("shapes", **refused)
        with pytest.raises(InferenceServerException, match="no model 'nope'"):
            client.load_model("nope")
        assert client.is_model_ready("shapes")
