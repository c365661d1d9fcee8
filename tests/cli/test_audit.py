import json
import os
import subprocess
import sys

import pytest


def test_sites_are_shown_as_a_table(mcdrop, nets):
    result = mcdrop("audit", "nets:build")
    assert result.exit_code == 0
    assert "dropout" in result.stdout
    assert "0.25" in result.stdout


def test_json_is_for_programs(mcdrop, nets):
    result = mcdrop("audit", "nets:build", "--json")
    report = json.loads(result.stdout)
    assert [(site["kind"], site["p"]) for site in report["sites"]] == [("dropout", 0.25)]


def test_a_model_without_sites_fails_the_audit(mcdrop, nets):
    for flags in ([], ["--json"]):
        result = mcdrop("audit", "nets:certain", *flags)
        assert result.exit_code == 1
        assert "nothing random was found" in result.stdout


def test_places_rates_and_measures_are_shown(mcdrop, nets):
    table = mcdrop("audit", "nets:build").stdout
    assert "0.3–0.5" in table
    assert "mean off by" in table
    assert "[info] 2: p = 0.25 at a hidden layer; 0.3 to 0.5 is customary" in table
    unmeasured = mcdrop("audit", "nets:build", "--no-measure")
    assert unmeasured.exit_code == 0
    assert "mean off by" not in unmeasured.stdout


NORM = """
import torch
from torch import nn

def norm():
    torch.manual_seed(0)
    first = nn.Linear(2, 3), nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 2)
    return nn.Sequential(*first).eval(), torch.zeros(1, 2)

class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return x + 0.0 * self.dropout(x)

def idle():
    return Idle(), torch.ones(2, 4)
"""


def test_a_batch_norm_is_measured_on_the_rows_of_a_file(mcdrop, nets):
    (nets / "norms.py").write_text(NORM)
    (nets / "rows.csv").write_text("".join(f"{i % 7},{i % 5}\n" for i in range(40)))
    without = json.loads(mcdrop("audit", "norms:norm", "--json").stdout)
    assert without["shifts"][0]["ratio"] is None
    options = ["--rows", "rows.csv", "--samples", "16", "--seed", "3", "--json"]
    report = json.loads(mcdrop("audit", "norms:norm", *options).stdout)
    assert (report["rows"], report["samples"], report["seed"]) == (40, 16, 3)
    assert report["shifts"][0]["ratio"] > 1.2
    assert report["findings"][0]["check"] == "batch_norm"
    selected = mcdrop("audit", "norms:norm", "--site", "3", "--json")
    assert json.loads(selected.stdout)["shifts"] == []


def test_a_model_whose_samples_do_not_differ_fails_the_audit(mcdrop, nets):
    (nets / "idle.py").write_text(NORM)
    result = mcdrop("audit", "idle:idle")
    assert result.exit_code == 1
    assert "[error] the model's sites ('dropout') make no difference" in " ".join(
        result.stdout.split()
    )
    assert mcdrop("audit", "idle:idle", "--no-measure").exit_code == 0


def test_a_factory_that_fails_is_one_line(mcdrop, nets):
    result = mcdrop("audit", "nets:failing")
    assert result.exit_code == 1
    assert (
        result.stderr == "mcdrop: calling nets:failing failed: ValueError: the weights are gone\n"
    )


BRANCH = """
import sys
import torch
from torch import nn

class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(x) if x.sum() > 0 else x

def branch():
    return Branch(), torch.zeros(2, 4)

class Talking(nn.Dropout):
    def forward(self, x):
        print("here I am", file=sys.stderr)
        return super().forward(x)

def talking():
    return Talking(), torch.zeros(2, 4)
"""


@pytest.mark.parametrize(
    "command", [["audit", "branches:branch"],
                ["export", "branches:branch", "out/1", "--task", "regression"]],
)  # fmt: skip
def test_torch_says_nothing_beside_the_one_line(tmp_path, command):
    (tmp_path / "branches.py").write_text(BRANCH)
    assert len(stderr(tmp_path, *command).splitlines()) == 1
    debug = stderr(tmp_path, "--debug", *command)
    assert "symbolic_shapes" in debug
    assert "def forward" in debug


def test_what_the_model_says_is_passed_on(tmp_path):
    (tmp_path / "branches.py").write_text(BRANCH)
    assert "here I am" in stderr(tmp_path, "audit", "branches:talking")


def stderr(folder, *args):
    command = [sys.executable, "-c", "from mcdrop.cli import main; main()", *args]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    ).stderr
