"""The whole OpenAPI document, tried by schemathesis on a running server, is true."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.evaluation import Labelled, evaluate
from mcdrop.republish import save_again
from service import Settings
from tests.service.effort import SEED, TIMES

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


class Patients(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 16), nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, features):
        return self.layers(features)


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.3), nn.Linear(16, 10))

    def forward(self, image):
        return self.layers(image.flatten(1))


def publish(path, model, rows, targets, task, classes=None):
    """Save a model that is calibrated and has its evaluation with it."""
    mc = mcdrop.MCDropout(model, rows[:2], task=task)
    mc.calibrate(rows, targets, source="noise")
    mc.save(path, name=path.parent.name, classes=classes)
    mc = mcdrop.load(path)
    found = evaluate(mc, [Labelled({mc.inputs[0].name: rows}, targets)], source="noise")
    save_again(mc, path, evaluation=found, overwrite=True)


@pytest.fixture
def models(repository, tmp_path):
    """A copy of the repository, and one model that may be unloaded.

    The demo models' likes are there, too: so that what the document has for examples is answered.
    """
    root = tmp_path / "the-models"
    shutil.copytree(repository, root)
    shutil.copytree(root / "meter", root / "spare")
    torch.manual_seed(0)
    numbers = mcdrop.tasks.Regression(noise_variance=0.3)
    publish(root / "diabetes" / "1", Patients(), torch.randn(120, 10), torch.randn(120), numbers)
    publish(
        root / "digits" / "1", Digits(), torch.randn(120, 1, 8, 8), torch.randint(10, (120,)),
        "classification", classes=tuple("0123456789"),
    )  # fmt: skip
    return root


def test_the_document_is_true(start, models, admin, tmp_path, caplog):
    settings = Settings(
        models=models, device="cpu", api_keys=admin.path, watch_seconds=0, warmup_rows=1,
        max_rows=8, max_samples=500, metrics_key_required=True,
    )  # fmt: skip
    statuses = tmp_path / "statuses.json"
    environment = os.environ | {
        "MCDROP_FUZZ_KEY": admin.key,
        "MCDROP_FUZZ_MODELS": str(models),
        "MCDROP_FUZZ_STATUSES": str(statuses),
    }
    with start(settings, admin.key) as live:
        address = f"http://127.0.0.1:{live.port}/openapi.json"
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli",
                "--config-file", str(HERE / "schemathesis.toml"), "run", address, "--no-color",
                "--seed", str(SEED), "--max-examples", str(20 * TIMES),
            ],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        document = live.client.get("/openapi.json").json()
    assert done.returncode == 0, done.stdout + done.stderr
    operations = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    answered = json.loads(statuses.read_text())
    assert answered.keys() == operations
    assert [name for name, seen in answered.items() if "200" not in seen] == []
    deep = ("predict", "predict_version", "infer_model", "infer_version", "evaluate_model")
    assert min(answered[name]["200"] for name in deep) >= 5, "few bodies fit: see hooks.py"
    assert "Traceback" not in caplog.text
