"""`calibration.json` and `evaluation.json` as data: what is kept, and what is refused on load."""

import dataclasses
import hashlib
import json
import math
import shutil

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import calibration as c
from mcdrop import tasks
from mcdrop.calibration import codec
from mcdrop.calibration.conformal_scores import ConformalScores
from mcdrop.evaluation import Labelled, evaluate
from mcdrop.republish import save_again

ROWS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
SCORES = ConformalScores.of(torch.rand(30, generator=torch.Generator().manual_seed(1)))
HALF = {"values": [0.5], "ranks": [1], "cases": 1}
CLASSES, NUMBERS = tasks.Classification(), tasks.Regression()
SELECTION = {"thresholds": [0.5], "coverage": [0.5], "risk": [0.1]}


def _save(path, task, outputs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, outputs))
    mc = mcdrop.MCDropout(net, ROWS[:2], task=task, engine="loop")
    if isinstance(mc.task, tasks.Classification):
        mc.calibration = c.Calibration(mc.task, scaling=c.Temperature(2.0))
    elif isinstance(mc.task, tasks.Regression):
        mc.calibration = c.Calibration(mc.task, scaling=c.DeviationScaling(2.0))
    else:
        mc.calibration = c.Calibration(mc.task, source="nothing")
    return mc.save(path / "1", name="m", samples=8)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A model of ten classes, one of three numbers, one of a mean with its variance, yes or no."""
    root = tmp_path_factory.mktemp("artifacts")
    _save(root / "classes", "classification", 10)
    _save(root / "numbers", tasks.Regression(noise_variance=1.0), 3)
    _save(root / "gaussian", "gaussian", 6)
    _save(root / "yes", "binary", 1)
    return root


@pytest.fixture
def rewrite(artifacts, tmp_path):
    """A copy of an artifact with another JSON file, whose hash its manifest declares."""

    def run(model, document, name="calibration"):
        path = tmp_path / model
        shutil.copytree(artifacts / model / "1", path, dirs_exist_ok=True)
        # JSON has no infinity, but numbers that are read as one
        text = "" if isinstance(document, bytes) else json.dumps(document)
        content = text.replace("Infinity", "1e400").encode() or document
        (path / f"{name}.json").write_bytes(content)
        manifest = json.loads((path / "model.json").read_text())
        manifest["files"][name] = hashlib.sha256(content).hexdigest()
        (path / "model.json").write_text(json.dumps(manifest))
        return path

    return run


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        (CLASSES, {"scaling": c.Temperature(2.0)}),
        (CLASSES, {"scaling": c.SampleTemperature(math.exp(-5.0))}),
        (CLASSES, {"scaling": c.VectorScaling((1.0, 2.0), (0.0, -9.0))}),
        (CLASSES, {"scaling": c.MatrixScaling(((1.0, 0.0), (0.1, 2.0)), (0.0, 1.0))}),
        (CLASSES, {"scaling": c.HistogramBinning(((0.1, 0.9),))}),
        (CLASSES, {"scaling": c.IsotonicCalibration((((0.1, 0.2, 0.9), (0.0, 0.5, 1.0)),))}),
        (CLASSES, {"sets": c.SetRule(SCORES, 10, "raps", 0.01, 5)}),
        (CLASSES, {"selection": c.Selection("entropy", (0.5,), (1.0,), (0.1,))}),
        (NUMBERS, {"scaling": c.DeviationScaling(3.0)}),
        (NUMBERS, {"scaling": c.QuantileRecalibration((-1.0, 0.5, 2.0))}),
        (NUMBERS, {"scaling": c.OutputScalings((c.DeviationScaling(3.0),) * 3)}),
        (NUMBERS, {"intervals": c.IntervalRule(SCORES, scaled=False)}),
        (NUMBERS, {"intervals": c.ConformalQuantiles(-0.5, 0.9)}),
        (NUMBERS, {"intervals": c.OutputIntervals((c.IntervalRule(SCORES),) * 3)}),
        (NUMBERS, {"selection": c.Selection("std", (0.5,), (1.0,), (0.1,))}),
    ],
)
def test_every_calibrator_comes_back_equal(task, parts):
    made = c.Calibration(task, cases=30, source="held out", **parts)
    document = json.loads(json.dumps(codec.encode(made), allow_nan=False))
    assert codec.decode(document, task) == made


def test_whole_numbers_do_for_others():
    document = {"format": 1, "scaling": {"kind": "temperature", "temperature": 2}}
    assert codec.decode(document, CLASSES).scaling == c.Temperature(2.0)


@pytest.mark.parametrize(
    ("model", "part", "said"),
    [
        # numbers are numbers
        ("classes", {"kind": "temperature", "temperature": "2"}, "scaling.temperature: .*number"),
        ("classes", {"kind": "temperature", "temperature": True}, "scaling.temperature: .*number"),
        ("classes", {"kind": "temperature", "temperature": None}, "scaling.temperature: .*number"),
        ("classes", {"kind": "vector", "weight": ["1"] * 10, "bias": [0] * 10}, "weight.0: "),
        ("classes", {"kind": "vector", "weight": [[1]] * 10, "bias": [0] * 10}, "weight.0: "),
        ("numbers", {"kind": "deviation", "factor": [2, 2, 2]}, "scaling.factor: "),
        # within bounds that predictions survive
        ("classes", {"kind": "temperature", "temperature": 1e-300}, "from 0.001 to 1000; got 1e-3"),
        ("classes", {"kind": "sample_temperature", "temperature": 1e9}, "from 0.001 to 1000"),
        ("classes", {"kind": "temperature", "temperature": 0}, "above 0"),
        ("classes", {"kind": "temperature", "temperature": math.nan}, "NaN is not JSON"),
        ("classes", {"kind": "temperature", "temperature": math.inf}, "finite"),
        ("classes", {"kind": "vector", "weight": [1e300] * 10, "bias": [0] * 10}, "scaling.weight"),
        ("classes", {"kind": "vector", "weight": [1] * 10, "bias": [-1e300] * 10}, "scaling.bias"),
        ("numbers", {"kind": "deviation", "factor": 1e300}, r"scaling\.factor"),
        ("numbers", {"kind": "quantiles", "places": [-1e300, 1e300]}, r"scaling\.places"),
        # of the size of the model
        ("classes", {"kind": "vector", "weight": [1] * 3, "bias": [0] * 3}, "for 3 classes; .* 10"),
        (
            "classes",
            {"kind": "matrix", "weight": [[1, 0], [0, 1]], "bias": [0, 0]},
            "for 2 classes",
        ),
        ("classes", {"kind": "histogram", "frequencies": [[0.5]] * 3}, "for 3 classes; .* 10"),
        ("classes", {"kind": "isotonic", "knots": [[[0.5], [0.5]]]}, "for 2 classes; .* 10"),
        ("yes", {"kind": "vector", "weight": [1] * 3, "bias": [0] * 3}, "for 3 classes; .* 2"),
        (
            "numbers",
            {"kind": "output_scalings", "parts": [{"factor": 2}] * 2},
            "for 2 outputs; the model has 3",
        ),
        (
            "gaussian",
            {"kind": "output_scalings", "parts": [{"factor": 2}] * 6},
            "for 6 outputs; the model has 3",
        ),
        (
            "numbers",
            {"kind": "output_scalings", "parts": [{"factor": 2}, {"factor": 1e99}, {"factor": 2}]},
            r"parts\[1\]\.factor",
        ),
        (
            "numbers",
            {"kind": "output_scalings", "parts": [{"factor": 2, "places": [1]}] * 3},
            r"scaling\.parts",
        ),
    ],
)
def test_a_scaling_that_does_not_fit_is_refused_on_load(rewrite, model, part, said):
    path = rewrite(model, {"format": 1, "cases": 60, "scaling": part})
    with pytest.raises(mcdrop.ArtifactError, match=said):
        mcdrop.load(path)


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        ("classes", {"sets": {"kind": "sets", "scores": HALF, "classes": 3}}, "for 3 classes"),
        ("classes", {"sets": {"kind": "sets", "scores": HALF, "classes": 0}}, "classes .*from 1"),
        ("classes", {"sets": {"kind": "sets", "scores": HALF, "classes": True}}, "classes: "),
        ("classes", {"sets": {"kind": "sets", "scores": HALF, "classes": "10"}}, "classes: "),
        (
            "classes",
            {"sets": {"kind": "sets", "scores": HALF | {"more": 1}, "classes": 10}},
            r"sets\.scores' has unknown fields \['more'\]",
        ),
        (
            "classes",
            {"sets": {"kind": "sets", "scores": HALF, "classes": 10, "rank": 10**400}},
            r"sets\.rank",
        ),
        (
            "numbers",
            {"intervals": {"kind": "output_intervals", "parts": [{"scores": HALF}] * 2}},
            "for 2 outputs; the model has 3",
        ),
        ("numbers", {"intervals": {"kind": "cqr", "shift": "1", "level": 0.9}}, "shift: "),
        ("numbers", {"intervals": {"kind": "cqr", "shift": math.inf, "level": 0.9}}, "shift"),
        ("numbers", {"selection": {"kind": "selection", "uncertainty": "x", **SELECTION}}, "'std'"),
        ("classes", {"selection": {"kind": ["selection"]}}, "a kind out of"),
        ("classes", {"format": True}, "format 1; got True"),
        ("classes", {"format": 1.0}, r"format 1; got 1\.0"),
        ("classes", {"cases": True}, "cases are a whole number"),
        ("classes", {"cases": 10**400}, r"calibration\.cases"),
        ("classes", {"source": "\ud800"}, "source is text"),
    ],
)
def test_other_parts_that_do_not_fit_are_refused_on_load(rewrite, model, change, said):
    path = rewrite(model, {"format": 1, "cases": 60, **change})
    with pytest.raises(mcdrop.ArtifactError, match=said):
        mcdrop.load(path)


@pytest.mark.parametrize("content", [b"[" * 10_000, b'{"format": 1, "sets": ' + b"[" * 900])
def test_what_is_no_json_is_refused_on_load(rewrite, content):
    with pytest.raises(mcdrop.ArtifactError):
        mcdrop.load(rewrite("classes", content))


def test_an_artifact_is_not_saved_that_could_not_be_loaded(artifacts, tmp_path):
    mc = mcdrop.load(artifacts / "classes" / "1")
    mc.calibration = c.Calibration(mc.task, scaling=c.Temperature(1e-9))
    with pytest.raises(
        mcdrop.InputError, match=r"scaling\.temperature of an artifact .* got 1e-09"
    ):
        save_again(mc, tmp_path / "m")
    mc = mcdrop.load(artifacts / "numbers" / "1")
    endless = c.ConformalQuantiles(math.inf, 0.99)
    mc.calibration = c.Calibration(mc.task, intervals=endless)
    with pytest.raises(mcdrop.InputError, match=r"intervals\.shift of an artifact .* got inf"):
        save_again(mc, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_source_whose_name_is_no_text_can_be_saved(artifacts, tmp_path):
    mc = mcdrop.load(artifacts / "classes" / "1")
    assert mc.calibration is not None
    mc.calibration = dataclasses.replace(
        mc.calibration, source="r\udce4ts.csv"
    )  # Latin-1 file name
    found = mcdrop.load(save_again(mc, tmp_path / "m")).calibration
    assert found is not None
    assert found.source == "r?ts.csv"


@pytest.fixture(scope="module")
def evaluation(artifacts):
    mc = mcdrop.load(artifacts / "classes" / "1")
    rows = Labelled({mc.inputs[0].name: ROWS}, torch.arange(60) % 10)
    return evaluate(mc, [rows], source="rows").model_dump(mode="json")


def test_an_evaluation_of_another_format_stops_no_model(rewrite, evaluation, caplog):
    """It could not be evaluated again if it could not be loaded."""
    found = mcdrop.load(rewrite("classes", {**evaluation, "format": 1}, "evaluation"))
    assert found.evaluation is None
    (record,) = [r for r in caplog.records if r.name == "mcdrop.extras"]
    assert "format 1 is left out" in record.getMessage()
    assert "mcdrop evaluate --attach" in record.getMessage()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"source": "rows", "rows": "60", "cases": 60}}, r"data\.rows: .*integer"),
        ({"data": {"source": "rows", "rows": True, "cases": 60}}, r"data\.rows: .*integer"),
        ({"format": "1"}, "format: "),
        ({"model": {"name": "m", "version": 1, "task": "regression"}}, "figures of a regression"),
        ({"coverage": [{"name": "x", "x": [math.inf], "y": [0]}]}, r"coverage\.0\.x\.0"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused_on_load(rewrite, evaluation, change, said):
    assert mcdrop.load(rewrite("classes", evaluation, "evaluation")).evaluation is not None
    with pytest.raises(mcdrop.ArtifactError, match=said):
        mcdrop.load(rewrite("classes", {**evaluation, **change}, "evaluation"))
