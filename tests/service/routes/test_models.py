def test_the_list_has_everything_also_what_is_broken(client):
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert list(models) == ["brain", "broken", "meter", "pair", "shapes", "tags"]
    shapes = models["shapes"]
    assert (shapes["version"], shapes["state"], shapes["task"]) == (2, "ready", "classification")
    assert [version["state"] for version in shapes["versions"]] == ["unavailable", "ready", "ready"]
    assert models["broken"]["state"] == "unavailable"
    assert models["broken"]["versions"][0]["reason"]


def test_a_model_says_what_it_takes_answers_and_achieves(client):
    shapes = client.get("/v1/models/shapes").json()
    assert shapes["version"] == 2
    assert shapes["description"] == "shapes, take 2"
    assert shapes["task"]["kind"] == "classification"
    assert shapes["classes"] == ["circle", "square", "star"]
    assert shapes["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 4], "ranges": {}}]
    outputs = {output["name"]: output for output in shapes["outputs"]}
    assert outputs["mean"]["shape"] == [None, 3]
    assert outputs["entropy"]["shape"] == [None]
    assert [(site["kind"], site["p"]) for site in shapes["sites"]] == [("dropout", 0.5)]
    assert shapes["defaults"]["samples"] >= 1
    assert shapes["metrics"] == {"test_accuracy": 0.5}
    assert shapes["provenance"]["made_by"] == "tests"
    assert shapes["limits"]["max_rows"] == 8


def test_the_outputs_described_are_those_of_a_prediction(client):
    for name, row in (("shapes", [0.0] * 4), ("meter", [0.0] * 3)):
        described = [item["name"] for item in client.get(f"/v1/models/{name}").json()["outputs"]]
        answer = client.post(f"/v1/models/{name}/predict", json={"inputs": [row]}).json()
        assert described == [field for field in answer["outputs"] if field != "label"]


def test_versions_are_described_apart(client):
    older = client.get("/v1/models/shapes/versions/1").json()
    assert (older["version"], older["description"]) == (1, "shapes, take 1")
    broken = client.get("/v1/models/shapes/versions/3").json()
    assert (broken["state"], broken["inputs"]) == ("unavailable", [])
    assert broken["reason"]


def test_what_is_not_there(client):
    for path in ("nope", "shapes/versions/9"):
        response = client.get(f"/v1/models/{path}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
