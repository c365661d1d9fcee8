import pytest
import torch

import mcdrop

ROWS = [[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]
FLAT = [value for row in ROWS for value in row]


def tensor(name="x", shape=(2, 4), datatype="FP32", data=FLAT, **more):
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def infer(client, *inputs, model="shapes", **request):
    body = {"inputs": list(inputs) or [tensor()], **request}
    return client.post(f"/v2/models/{model}/infer", json=body)


def test_server_metadata_with_and_without_slash(client):
    for path in ("/v2", "/v2/"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.json()["name"] == "mcdrop"
        extensions = ["binary_tensor_data", "model_repository"]
        assert response.json()["extensions"] == extensions


def test_health(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path, status in (("shapes", 200), ("shapes/versions/1", 200), ("shapes/versions/3", 503),
                         ("broken", 503)):  # fmt: skip
        response = client.get(f"/v2/models/{path}/ready")
        assert response.status_code == status
        assert response.json() == {"name": path.split("/")[0], "ready": status == 200}


def test_model_metadata_says_what_infer_takes_and_gives(client):
    metadata = client.get("/v2/models/shapes").json()
    assert metadata["name"] == "shapes"
    assert metadata["versions"] == ["2", "1"]
    assert metadata["platform"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    answer = infer(client).json()
    assert [out["name"] for out in metadata["outputs"]] == [
        out["name"] for out in answer["outputs"]
    ]
    for described, got in zip(metadata["outputs"], answer["outputs"], strict=True):
        assert described["datatype"] == got["datatype"]
        assert [2 if size == -1 else size for size in described["shape"]] == got["shape"]
    assert client.get("/v2/models/shapes/versions/1").json() == metadata
    pair = client.get("/v2/models/pair").json()
    assert {(t["name"], t["datatype"]) for t in pair["inputs"]} == {("x", "FP32"), ("ids", "INT64")}


def test_the_answer_is_the_library_s(client, repository):
    parameters = {"mc_samples": 40, "mc_seed": 5}
    answer = infer(client, id="request 7", parameters=parameters).json()
    expected = mcdrop.load(repository / "shapes" / "2").predict(
        torch.tensor(ROWS), samples=40, seed=5
    )
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (
        "shapes",
        "2",
        "request 7",
    )
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert list(outputs) == list(expected.fields())
    for name, field in expected.fields().items():
        assert outputs[name]["shape"] == list(field.shape)
        assert outputs[name]["datatype"] == ("INT64" if name == "samples" else "FP32")
        got = torch.tensor(outputs[name]["data"], dtype=field.dtype)
        torch.testing.assert_close(got, field.reshape(-1))


def test_versions_and_absent_id(client):
    for version in (1, 2):
        path = f"/v2/models/shapes/versions/{version}/infer"
        answer = client.post(path, json={"inputs": [tensor()]}).json()
        assert answer["model_version"] == str(version)
        assert "id" not in answer


def test_flat_and_nested_data_are_the_same(client):
    assert infer(client).json() == infer(client, tensor(data=ROWS)).json()


def test_requested_outputs_come_in_the_order_asked_for(client):
    asked = [{"name": "entropy"}, {"name": "mean", "parameters": {"binary_data": False}}]
    answer = infer(client, outputs=asked).json()
    assert [output["name"] for output in answer["outputs"]] == ["entropy", "mean"]


def test_several_inputs_in_any_order(client, alike):
    ids = tensor("ids", (2, 3), "INT64", [1, 2, 3, 4, 5, 6])
    first = infer(client, tensor(), ids, model="pair").json()
    second = infer(client, ids, tensor(), model="pair").json()
    assert first["outputs"]
    values = [{o["name"]: o["data"] for o in answer["outputs"]} for answer in (first, second)]
    alike(*values)


def test_undefined_numbers_are_null(client):
    answer = infer(client, parameters={"mc_samples": 1}, outputs=[{"name": "standard_error"}])
    assert answer.json()["outputs"][0]["data"] == [None] * 6


def test_a_tolerance_stops_rows_early(client):
    parameters = {"mc_tolerance": 10.0, "mc_samples": 500}
    answer = infer(client, parameters=parameters, outputs=[{"name": "samples"}])
    assert answer.json()["outputs"][0]["data"] == [64, 64]


def test_parameters_of_others_are_passed_over(client):
    parameters = {"priority": 1, "timeout": 5, "mc_tolerance": None}
    assert infer(client, parameters=parameters).status_code == 200


@pytest.mark.parametrize(
    ("inputs", "request_", "said"),
    [
        ([tensor(datatype="FP64")], {}, "has the datatype FP32; got 'FP64'"),
        ([tensor(datatype="INT64")], {}, "FP32"),
        ([tensor(shape=(2, 5))], {}, "expected shape [rows, 4], got [2, 5]"),
        ([tensor(shape=(3, 4))], {}, "needs 12 values"),
        ([tensor(shape=(2, -4))], {}, "inputs/0/shape/1"),
        ([tensor(shape=(0, 4), data=[])], {}, "one row"),
        ([tensor(data=[[1, 2, 3, 4], [5]])], {}, "ragged"),
        ([tensor(data=[True] * 8)], {}, "is true"),
        ([tensor(data=[1e39] * 8)], {}, "outside the range"),
        ([tensor(data=None)], {}, "no data"),
        ([tensor("y")], {}, "takes the inputs 'x'; got 'y'"),
        ([tensor(), tensor()], {}, "got 'x', 'x'"),
        ([tensor(), tensor("y")], {}, "got 'x', 'y'"),
        ([tensor(shape=(9, 4), data=[0] * 36)], {}, "8 rows, this one has 9"),
        ([{"name": "x"}], {}, "inputs/0/shape: Field required"),
        ([tensor()], {"outputs": [{"name": "nope"}]}, "no output 'nope'"),
        ([tensor()], {"outputs": [{"name": "mean"}, {"name": "mean"}]}, "twice"),
        (
            [tensor()],
            {"outputs": [{"name": "mean", "parameters": {"classification": 2}}]},
            "'classification' is not offered",
        ),
        ([tensor()], {"parameters": {"mc_samples": 0}}, "'mc_samples' is a whole number from 1"),
        ([tensor()], {"parameters": {"mc_samples": True}}, "mc_samples"),
        ([tensor()], {"parameters": {"mc_samples": 501}}, "to 500"),
        ([tensor()], {"parameters": {"mc_seed": -1}}, "mc_seed"),
        ([tensor()], {"parameters": {"mc_sampels": 5}}, "no parameter 'mc_sampels'"),
        ([tensor()], {"parameters": {"mc_tolerance": 0}}, "'mc_tolerance' is a number above 0"),
        ([tensor()], {"parameters": {"mc_tolerance": True}}, "above 0; got True"),
        ([tensor()], {"parameters": []}, "parameters: send a JSON object"),
        ([5], {}, "inputs/0: send a JSON object; got 5"),
        ([tensor()], {"id": 7}, "id: "),
    ],
)
def test_bad_requests_are_400_with_an_error(client, inputs, request_, said):
    response = infer(client, *inputs, **request_)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]


def test_free_axes_are_minus_one(client):
    metadata = client.get("/v2/models/tags").json()
    assert metadata["inputs"][0]["shape"] == [-1, -1, 4]
    shapes = {output["name"]: output["shape"] for output in metadata["outputs"]}
    assert shapes["mean"] == [-1, -1, 3]
    assert shapes["entropy"] == [-1, -1]
    answer = infer(client, tensor(shape=(1, 2, 4)), model="tags").json()
    assert answer["outputs"][0]["shape"] == [1, 2, 3]


def test_what_the_protocol_carries_in_binary_only_is_refused_as_json(client):
    response = infer(client, tensor(datatype="BF16"), model="brain")
    assert response.status_code == 400
    assert "in binary only" in response.json()["error"]
    assert "/v1/models/brain/predict" in response.json()["error"]


def test_whole_numbers_stay_whole(client):
    ids = tensor("ids", (2, 3), "INT64", [1, 2, 3, 4, 5, 6.0])
    response = infer(client, tensor(), ids, model="pair")
    assert response.status_code == 400
    assert "'ids': [1][2] is 6.0" in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"inputs": [NaN]}', b"\xff"])
def test_bodies_that_are_no_request(client, body):
    response = client.post("/v2/models/shapes/infer", content=body)
    assert response.status_code == 400
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "models/nope/infer", 404),
        ("GET", "models/nope", 404),
        ("GET", "models/nope/ready", 404),
        ("GET", "models/shapes/versions/9", 404),
        ("GET", "models/shapes/versions/x", 400),
        ("GET", "nothing", 404),
        ("GET", "models/shapes/infer", 405),
        ("POST", "models/broken/infer", 503),
        ("GET", "models/broken", 503),
    ],
)
def test_other_errors_have_the_protocol_s_body_too(client, method, path, status):
    response = client.request(method, f"/v2/{path}", json={"inputs": [tensor()]})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
