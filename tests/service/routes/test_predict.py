import math
import re

import pytest
import torch

import mcdrop

ROWS = [[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]]
METER = [[0.5, -1.0, 2.0]]


def post(client, body, model="shapes", **request):
    return client.post(f"/v1/models/{model}/predict", json=body, **request)


def test_the_answer_is_the_library_s(client, repository):
    answer = post(client, {"inputs": ROWS, "samples": 50, "seed": 3}).json()
    expected = mcdrop.load(repository / "shapes" / "2").predict(
        torch.tensor(ROWS), samples=50, seed=3
    )
    assert answer["model"] == "shapes"
    assert answer["version"] == 2
    assert answer["samples"] == [50, 50]
    labels = answer["outputs"].pop("label")
    fields = expected.fields()
    del fields["samples"]
    assert list(answer["outputs"]) == list(fields)
    for name, field in fields.items():
        torch.testing.assert_close(torch.tensor(answer["outputs"][name]), field)
    classes = ("circle", "square", "star")
    assert labels == [classes[i] for i in expected.mean.argmax(1)]
    assert answer["timing"]["compute_ms"] > 0
    assert answer["timing"]["queue_ms"] >= 0


def test_every_version_can_be_addressed(client, alike):
    answers = [
        client.post(f"/v1/models/shapes/versions/{version}/predict", json={"inputs": ROWS}).json()
        for version in (1, 2)
    ]
    assert [answer["version"] for answer in answers] == [1, 2]
    assert answers[0]["outputs"]["mean"] != answers[1]["outputs"]["mean"]
    newest = post(client, {"inputs": ROWS}).json()
    alike(newest["outputs"], answers[1]["outputs"])


def test_defaults_come_from_the_model(client, alike):
    absent = post(client, {"inputs": METER}, "meter").json()
    explicit = post(client, {"inputs": METER, "samples": 32, "seed": 7}, "meter").json()
    nulls = {"inputs": METER, "samples": None, "seed": None, "interval": None, "outputs": None}
    nulls |= {"tolerance": None, "abstain_above": None, "deadline_ms": None}
    assert absent["samples"] == [32]
    alike(absent["outputs"], explicit["outputs"])
    alike(absent["outputs"], post(client, nulls, "meter").json()["outputs"])
    assert absent["id"] != explicit["id"]


def test_a_tolerance_stops_rows_early(client):
    loose = post(client, {"inputs": ROWS, "tolerance": 10.0}).json()
    assert loose["samples"] == [64] * len(ROWS)
    tight = post(client, {"inputs": ROWS, "tolerance": 1e-9}).json()
    assert tight["samples"] == [500] * len(ROWS)  # the server's most, below the default of 1024
    few = post(client, {"inputs": ROWS, "tolerance": 1e-9, "samples": 80}).json()
    assert few["samples"] == [80] * len(ROWS)


def test_interval_of_a_regression(client):
    outputs = post(client, {"inputs": METER, "interval": 0.9}, "meter").json()["outputs"]
    mean, variance = outputs["mean"][0][0], outputs["variance"][0][0]
    half = 1.6448536 * math.sqrt(variance)
    assert outputs["lower"][0][0] == pytest.approx(mean - half, rel=1e-5)
    assert outputs["upper"][0][0] == pytest.approx(mean + half, rel=1e-5)


def test_only_the_outputs_asked_for(client):
    body = {"inputs": ROWS, "outputs": ["label", "entropy"]}
    assert list(post(client, body).json()["outputs"]) == ["entropy", "label"]
    body = {"inputs": METER, "outputs": ["mean"], "interval": 0.5}
    assert list(post(client, body, "meter").json()["outputs"]) == ["mean"]
    body = {"inputs": METER, "outputs": ["upper", "mean"], "interval": 0.5}
    assert list(post(client, body, "meter").json()["outputs"]) == ["mean", "upper"]
    assert post(client, {"inputs": METER, "outputs": []}, "meter").json()["outputs"] == {}


def test_a_single_sample_has_no_standard_error(client):
    response = post(client, {"inputs": ROWS, "samples": 1})
    assert response.json()["outputs"]["standard_error"] == [[None] * 3] * 2
    assert "NaN" not in response.text


def test_several_inputs_go_by_name(client, repository):
    inputs = {"x": ROWS, "ids": [[1, 2, 3], [4, 5, 6]]}
    answer = post(client, {"inputs": inputs, "samples": 8, "seed": 0}, "pair").json()
    expected = mcdrop.load(repository / "pair" / "1").predict(
        {"x": torch.tensor(ROWS), "ids": torch.tensor(inputs["ids"])}, samples=8, seed=0
    )
    torch.testing.assert_close(torch.tensor(answer["outputs"]["mean"]), expected.mean)
    assert "label" not in answer["outputs"]


def test_a_single_input_may_go_by_name(client, alike):
    named = post(client, {"inputs": {"x": ROWS}}).json()
    alike(named["outputs"], post(client, {"inputs": ROWS}).json()["outputs"])


def test_free_axes_and_a_label_for_each_token(client):
    for tokens in (2, 16):
        response = post(client, {"inputs": [[ROWS[0]] * tokens] * 3}, "tags")
        outputs = response.json()["outputs"]
        for row, means in zip(outputs["label"], outputs["mean"], strict=True):
            assert len(row) == tokens
            for label, mean in zip(row, means, strict=True):
                assert label == ("circle", "square", "star")[mean.index(max(mean))]
    response = post(client, {"inputs": [[ROWS[0]] * 17]}, "tags")
    assert response.status_code == 422
    assert "expected shape [rows, 2..16, 4], got [1, 17, 4]" in response.json()["detail"]


def test_bfloat16_goes_in_as_numbers(client, repository):
    answer = post(client, {"inputs": ROWS, "samples": 9, "seed": 1}, "brain").json()
    rows = torch.tensor(ROWS, dtype=torch.bfloat16)
    expected = mcdrop.load(repository / "brain" / "1").predict(rows, samples=9, seed=1)
    torch.testing.assert_close(torch.tensor(answer["outputs"]["mean"]), expected.mean.float())


def test_content_type_does_not_matter(client):
    # curl -d says it sends a form
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        response = client.post(
            "/v1/models/meter/predict",
            content=b'{"inputs": [[1, 2, 3]]}',
            headers={"content-type": content_type},
        )
        assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "inputs: Field required"),
        ([], "body: send a JSON object$"),
        (5, "body: send a JSON object; got 5$"),
        ({"inputs": ROWS, "tolerance": 0}, "tolerance: .*greater than 0; got 0"),
        ({"inputs": ROWS, "sets": 0.9}, "has no conformal sets"),
        ({"inputs": ROWS, "sets": 1.0}, "sets: "),
        ({"inputs": ROWS, "abstain_above": "high"}, "abstain_above: "),
        ({"inputs": ROWS, "outputs": ["set"]}, "the output 'set' needs a level"),
        ({"inputs": ROWS, "deadline_ms": 0}, "deadline_ms: "),
        (
            {"inputs": ROWS, "sample": 5},
            "there are: inputs, samples, .*, outputs, tolerance, deadline_ms$",
        ),
        ({"inputs": ROWS, "outputs": ["lower"]}, "no output 'lower'"),
        ({"inputs": 5}, "inputs: send nested lists.*; got 5"),
        ({"inputs": {"x": 5}}, "inputs: send nested lists"),
        ({"inputs": ROWS, "sample": 5}, "sample: there is no such field; there are: inputs, sam"),
        ({"inputs": ROWS, "samples": 0}, "samples: .*greater than or equal to 1; got 0"),
        ({"inputs": ROWS, "samples": True}, "samples: .*integer; got true"),
        ({"inputs": ROWS, "samples": 2.0}, "samples: .*integer; got 2.0"),
        ({"inputs": ROWS, "samples": "9"}, 'samples: .*integer; got "9"'),
        ({"inputs": ROWS, "samples": 501}, "500 samples, this one asks for 501"),
        ({"inputs": ROWS, "seed": -1}, "seed: "),
        ({"inputs": ROWS, "seed": 2**63}, "seed: "),
        ({"inputs": ROWS, "interval": 0.9}, "interval is for regression"),
        ({"inputs": ROWS, "outputs": ["mode"]}, "no output 'mode'; it has: mean, variance"),
        ({"inputs": ROWS * 5}, "8 rows, this one has 10"),
        ({"inputs": []}, "one row at least"),
        ({"inputs": ROWS[0]}, "list of its own"),
        ({"inputs": [[1, 2, 3]]}, r"expected shape \[rows, 4\], got \[1, 3\]"),
        ({"inputs": [[1, 2, 3, None]]}, r"\[0\]\[3\] is null"),
        ({"inputs": [[1, 2, 3, 1e300]]}, "outside the range of float32"),
        ({"inputs": {"y": ROWS}}, "takes the inputs 'x'; got 'y'"),
        ({"inputs": {}}, "got none"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_says_so(client, body, said):
    response = post(client, body)
    problem = response.json()
    assert response.status_code == problem["status"] == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "about:blank"
    assert re.search(said, problem["detail"]), problem["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"inputs": METER, "interval": 1}, "interval: "),
        ({"inputs": METER, "outputs": ["lower"]}, "'lower' and 'upper' need an interval"),
        ({"inputs": METER, "outputs": ["mode"], "interval": 0.5}, "no output 'mode'; it has: mean"),
    ],
)
def test_intervals_are_checked(client, body, said):
    response = post(client, body, "meter")
    assert response.status_code == 422
    assert said in response.json()["detail"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (ROWS, "has the inputs 'x', 'ids': send an object"),
        ({"x": ROWS}, "takes the inputs 'x', 'ids'; got 'x'"),
        ({"x": ROWS, "ids": [[1, 2, 3]]}, "'x' has 2, 'ids' has 1"),
        ({"x": ROWS, "ids": [[1, 2, 3], [1, 2, 3.5]]}, "'ids': [1][2] is 3.5"),
    ],
)
def test_several_inputs_are_checked(client, inputs, said):
    response = post(client, {"inputs": inputs}, "pair")
    assert response.status_code == 422
    assert said in response.json()["detail"]


def test_violations_point_into_the_body(client):
    problem = post(client, {"inputs": ROWS, "samples": 0, "a/b": 1}).json()
    assert {error["pointer"] for error in problem["errors"]} == {"#/samples", "#/a~1b"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nope/predict", 404),
        ("shapes/versions/9/predict", 404),
        ("shapes/versions/x/predict", 422),
        ("shapes/versions/3/predict", 503),
        ("broken/predict", 503),
    ],
)
def test_models_that_cannot_answer(client, path, status):
    response = client.post(f"/v1/models/{path}", json={"inputs": ROWS})
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in response.headers) == (status == 503)
