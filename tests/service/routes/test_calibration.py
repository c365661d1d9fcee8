"""Calibrated models over HTTP: their predictions, what was measured, and evaluation on request."""

import json
import xml.etree.ElementTree as ET

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.evaluation import Evaluation, Labelled, evaluate
from mcdrop.republish import save_again
from service import Settings

CLASSES = ("circle", "square", "star")
ROWS = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))


def _net(outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs))


def _publish(mc, x, y, path, **card):
    mc.calibrate(x, y, source="held-out rows")
    mc.save(path, name=path.parent.name, **card)
    mc = mcdrop.load(path)
    rows = Labelled({mc.inputs[0].name: x}, y)
    save_again(mc, path, evaluation=evaluate(mc, [rows], source="test rows"), overwrite=True)


@pytest.fixture(scope="module")
def truth():
    """Labels and numbers that the nets of the repository have something to say about."""
    generator = torch.Generator().manual_seed(1)
    labels = _net(3)(ROWS).detach().mul(6).softmax(1).multinomial(1, generator=generator)[:, 0]
    numbers = _net(1)(ROWS).detach()[:, 0] + torch.randn(len(ROWS), generator=generator)
    return {"sorter": labels, "gauge": numbers}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, truth):
    root = tmp_path_factory.mktemp("calibrated")
    classes = mcdrop.MCDropout(_net(3), ROWS[:2], task="classification")
    _publish(classes, ROWS, truth["sorter"], root / "sorter" / "1", classes=CLASSES)
    numbers = mcdrop.MCDropout(_net(1), ROWS[:2], task=mcdrop.tasks.Regression(noise_variance=0.3))
    _publish(numbers, ROWS, truth["gauge"], root / "gauge" / "1")
    level = mcdrop.MCDropout(_net(1), ROWS[:2], task=mcdrop.tasks.Regression(noise_variance=0.3))
    level.calibrate(ROWS, truth["gauge"], conformal="cqr", level=0.8)
    level.save(root / "level" / "1", name="level")
    bare = mcdrop.MCDropout(_net(3), ROWS[:2], task="classification")
    bare.save(root / "bare" / "1", name="bare", classes=CLASSES)
    return root


@pytest.fixture(scope="module")
def client(repository, start):
    with start(Settings(models=repository, device="cpu", max_rows=200)) as live:
        yield live.client


def predict(client, model, **body):
    body = {"inputs": ROWS[:5].tolist(), **body}
    answer = client.post(f"/v1/models/{model}/predict", json=body)
    return answer.status_code, answer.json()


def test_predictions_are_those_of_the_calibrated_artifact(client, repository):
    mc = mcdrop.load(repository / "sorter" / "1")
    assert mc.calibration is not None
    status, answer = predict(client, "sorter", sets=0.8, abstain_above=0.9)
    assert status == 200
    expected = mc.predict(ROWS[:5])
    torch.testing.assert_close(torch.tensor(answer["outputs"]["mean"]), expected.mean)
    held = mc.calibration.conformal_sets(expected, 0.8)
    names = [[CLASSES[place] for place in row.nonzero().flatten()] for row in held]
    assert answer["outputs"]["set"] == names
    assert answer["outputs"]["abstain"] == (expected.entropy > 0.9).tolist()
    policy = mc.calibration.abstention(0.9)
    assert answer["abstention"] == {
        "uncertainty": "entropy",
        "abstain_above": 0.9,
        "coverage": pytest.approx(policy.coverage),
        "risk": pytest.approx(policy.risk),
    }
    mc.calibration = None
    assert not torch.allclose(mc.predict(ROWS[:5]).mean, expected.mean, atol=1e-3)


def test_intervals_are_conformal(client, repository):
    mc = mcdrop.load(repository / "gauge" / "1")
    assert mc.calibration is not None
    _, answer = predict(client, "gauge", interval=0.8, outputs=["lower", "upper", "variance"])
    expected = mc.predict(ROWS[:5])
    lower, upper = mc.calibration.interval(expected, 0.8)
    outputs = {name: torch.tensor(values) for name, values in answer["outputs"].items()}
    torch.testing.assert_close(outputs["lower"], lower)
    torch.testing.assert_close(outputs["upper"], upper)
    torch.testing.assert_close(outputs["variance"], expected.variance)


def test_too_few_cases_for_a_level_are_everything(client):
    _, answer = predict(client, "gauge", interval=0.9999, outputs=["lower", "upper"])
    assert answer["outputs"] == {"lower": [[None]] * 5, "upper": [[None]] * 5}


def test_a_model_that_was_not_calibrated_says_so(client):
    status, answer = predict(client, "bare", sets=0.9)
    assert status == 422
    assert "mcdrop calibrate" in answer["detail"]
    status, answer = predict(client, "bare", abstain_above=0.5)
    assert status == 200
    assert len(answer["outputs"]["abstain"]) == 5
    assert answer["abstention"]["coverage"] is None
    answer = client.get("/v1/models/bare/calibration").json()
    assert answer["calibrators"] == ""
    assert answer["evaluation"] is None
    missing = client.get("/v1/models/bare/calibration/reliability.svg")
    assert missing.status_code == 404
    assert "mcdrop evaluate --attach" in missing.json()["detail"]


@pytest.mark.parametrize("model", ["sorter", "gauge"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_what_was_measured_offline_is_told(client, repository, model, version):
    answer = client.get(f"/v1/models/{model}{version}/calibration").json()
    mc = mcdrop.load(repository / model / "1")
    assert mc.calibration is not None
    assert answer["calibrators"] == mc.calibration.describe()
    assert answer["fitted_on"] == "held-out rows"
    assert answer["cases"] == 120
    assert Evaluation.model_validate(answer["evaluation"]) == mc.evaluation
    picture = client.get(f"/v1/models/{model}{version}/calibration/reliability.svg")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert ET.fromstring(picture.text).tag.endswith("svg")


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_labelled_rows_are_evaluated(client, repository, truth, version):
    for model, names in (("sorter", CLASSES), ("gauge", None)):
        targets = truth[model].tolist()
        if names is not None:  # names of classes do as well as numbers
            targets = [names[label] for label in targets[:60]] + targets[60:]
        body = {"inputs": ROWS.tolist(), "targets": targets, "samples": 32, "seed": 5}
        body["groups"] = ["a"] * 20 + ["b"] * 100
        answer = client.post(f"/v1/models/{model}{version}/evaluate", json=body)
        assert answer.status_code == 200, answer.text
        found = Evaluation.model_validate(answer.json())
        assert (found.model.name, found.model.version) == (model, 1)
        assert (found.data.rows, found.run.samples, found.run.seed) == (120, 32, 5)
        assert [part.cases for part in found.groups] == [20, 100]
        mc = mcdrop.load(repository / model / "1")
        rows = Labelled({mc.inputs[0].name: ROWS}, truth[model])
        expected = evaluate(mc, [rows], source="rows", samples=32, seed=5)
        for one, other in zip(found.figures, expected.figures, strict=True):
            assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-5), one.name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"targets": [0, 1]}, "a target for each of 3 rows; got 2"),
        ({"targets": [0, 1, 7]}, "labels must be from 0 to 2"),
        ({"targets": [0, 1, "cube"]}, "no class 'cube'; there are: circle, square, star"),
        ({"targets": [0, 1, 0.5]}, "class numbers or names; got 0.5"),
        ({"targets": [0, [1], 2]}, "class numbers or names"),
        ({"targets": [[0, 1], [0, 1], [0, 1]]}, "expected labels of shape"),
        ({"targets": [0, 1, None]}, "class numbers or names; got null"),
        ({"targets": []}, "targets: "),
        ({"groups": ["a"]}, "a group for each of 3 rows; got 1"),
        ({"inputs": [[1, 2]]}, "shape"),
        ({"extra": 1}, "there is no such field"),
    ],
)
def test_labelled_rows_that_do_not_fit_are_told(client, change, complaint):
    body = {"inputs": ROWS[:3].tolist(), "targets": [0, 1, 2], **change}
    answer = client.post("/v1/models/sorter/evaluate", json=body)
    assert answer.status_code == 422, answer.text
    assert complaint in answer.json()["detail"]


def test_whole_floats_are_class_numbers(client):
    found = []
    for targets in ([1.0, 1, 2.0], [1, 1, 2]):
        # one block of samples: the order in which a server folds several depends on its load
        body = {"inputs": ROWS[:3].tolist(), "targets": targets, "samples": 16}
        answer = client.post("/v1/models/sorter/evaluate", json=body)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["figures"])
    assert found[0] == found[1]


def test_numbers_are_as_wide_as_json_has_them(client):
    body = {"inputs": ROWS[:3].tolist(), "targets": [1e39, 0.5, 16_777_217]}
    answer = client.post("/v1/models/gauge/evaluate", json=body)
    assert answer.status_code == 200, answer.text
    found = Evaluation.model_validate(answer.json())
    assert found.figure("mean_absolute_error").value == pytest.approx(1e39 / 3)


def test_groups_of_a_model_with_one_level_of_intervals(client, truth):
    body = {"inputs": ROWS.tolist(), "targets": truth["gauge"].tolist(), "samples": 16}
    body["groups"] = ["a"] * 20 + ["b"] * 100
    answer = client.post("/v1/models/level/evaluate", json=body)
    assert answer.status_code == 200, answer.text
    found = Evaluation.model_validate(answer.json())
    assert [part.cases for part in found.groups] == [20, 100]


def test_a_request_takes_the_samples_that_it_asks_for(client):
    body = {"inputs": ROWS.tolist(), "targets": [0] * len(ROWS), "samples": 16}
    answer = client.post("/v1/models/sorter/evaluate", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["run"]["samples"] == 16
    assert answer.json()["convergence"] is None  # 256 more of each row


@pytest.mark.parametrize("model", ["sorter", "gauge"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_row_or_two_are_an_evaluation(client, model, rows):
    body = {"inputs": ROWS[:rows].tolist(), "targets": [1] * rows, "groups": ["a"] * rows}
    answer = client.post(f"/v1/models/{model}/evaluate", json=body)
    assert answer.status_code == 200, answer.text
    assert Evaluation.model_validate(answer.json()).data.rows == rows


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"samples": 1}, "2 samples or more: the variance of a single one is unknown"),
        ({"targets": [1.0, 2.0, 1e200]}, "targets are nested lists of numbers up to 1e+100"),
        ({"targets": [1.0, 2.0, "3"]}, 'got "3"'),
        ({"targets": [[1.0, 2.0]] * 3}, "expected targets of shape [3, 1]"),
        ({"groups": ["a", "b", ""]}, "groups/2: "),
    ],
)
def test_numbers_that_cannot_be_evaluated_are_told(client, change, complaint):
    body = {"inputs": ROWS[:3].tolist(), "targets": [0.5, 1.5, 2.5], **change}
    answer = client.post("/v1/models/gauge/evaluate", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert complaint in answer.json()["detail"]


def test_deep_nesting_is_no_failure_of_ours(client):
    nested = "[" * 500 + "1" + "]" * 500
    body = json.dumps({"inputs": ROWS[:1].tolist(), "targets": 0}).replace(
        '"targets": 0', f'"targets": {nested}'
    )
    answer = client.post("/v1/models/sorter/evaluate", content=body)
    assert answer.status_code == 422, answer.text


def test_the_protocol_gives_calibrated_means_too(client, repository):
    tensor = {"name": "input", "shape": [5, 4], "datatype": "FP32", "data": ROWS[:5].tolist()}
    mc = mcdrop.load(repository / "sorter" / "1")
    tensor["name"] = mc.inputs[0].name
    body = {"inputs": [tensor], "outputs": [{"name": "mean"}]}
    answer = client.post("/v2/models/sorter/infer", json=body).json()
    found = torch.tensor(answer["outputs"][0]["data"]).reshape(5, 3)
    torch.testing.assert_close(found, mc.predict(ROWS[:5]).mean)
