"""The page on evaluation and calibration: every block is executed, against the demo models."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mcdrop
from tests.docs.blocks import BIN, ROOT, Server, block_of, blocks_of, serving

PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
STARTS = ("mcdrop demo --labelled", "mcdrop calibrate", "import torch", "curl -s")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo models, and what the page's commands make of them."""
    folder = tmp_path_factory.mktemp("evaluation")
    _run("mcdrop demo --output models", folder)
    for start in STARTS[:2]:
        _run(block_of(PAGE, start), folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving("mcdrop serve --models models", folder, seconds=60) as running:
        yield running


def _run(command: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, check=True
    )


def test_every_block_is_executed() -> None:
    for block in blocks_of(PAGE):
        assert sum(block.text.startswith(start) for start in STARTS) == 1, block.text


def test_the_report_has_the_figures_of_its_json(folder: Path) -> None:
    report = folder / "reports" / "digits"
    figures = json.loads((report / "metrics.json").read_text())
    accuracy = next(f for f in figures["figures"] if f["name"] == "accuracy")
    assert accuracy["value"] > 0.97
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Other data: noise.npz" in page


def test_new_versions_are_calibrated_as_asked(folder: Path) -> None:
    digits = mcdrop.load(folder / "models/digits/2")
    assert digits.calibration is not None
    assert digits.calibration.describe() == "SampleTemperature, conformal sets (aps)"
    assert digits.evaluation is not None
    diabetes = mcdrop.load(folder / "models/diabetes/2")
    assert diabetes.calibration is not None
    assert diabetes.calibration.describe() == "DeviationScaling, conformal intervals (absolute)"


def test_the_demo_models_are_calibrated_and_keep_their_parts_of_uncertainty(folder: Path) -> None:
    """A temperature near 0 would leave nothing of what a sample itself is unsure of."""
    digits = mcdrop.load(folder / "models/digits/1")
    assert digits.calibration is not None
    assert 0.3 < digits.calibration.temperature < 1.5
    p = digits.predict(torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert p.expected_entropy.mean() > 0.2 * p.entropy.mean()


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block_of(PAGE, "import torch"), names)
    lower, upper = names["lower"], names["upper"]
    assert isinstance(lower, torch.Tensor)
    assert isinstance(upper, torch.Tensor)
    assert bool((lower < upper).all())
    assert mcdrop.load("models/line/1").calibration is not None


def test_the_server_tells_calibration_and_its_diagram(server: Server) -> None:
    told, drawn = block_of(PAGE, "curl -s").strip().splitlines()
    calibration = server.run(told)
    assert calibration["version"] == 2
    assert calibration["calibrators"] == "SampleTemperature, conformal sets (aps)"
    assert calibration["evaluation"]["data"]["rows"] == 450
    assert server.text(drawn).startswith("<svg")
