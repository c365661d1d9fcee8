import json
import subprocess
import sys

import pytest

from mcdrop.loading import load


@pytest.mark.parametrize("name", ["digits", "diabetes", "noise"])
def test_a_request_is_ready_for_curl(mcdrop, name):
    result = mcdrop("demo", "--request", name, "--row", 2)
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"inputs"}
    assert len(result.stderr.splitlines()) == 1  # what it is, for people


def test_a_row_that_is_not_there_is_told(mcdrop):
    result = mcdrop("demo", "--request", "diabetes", "--row", 111)
    assert result.exit_code == 1
    assert "111 test rows" in result.stderr


def test_unknown_models_are_usage_errors(mcdrop, tmp_path):
    assert mcdrop("demo", "mnist", "--output", tmp_path).exit_code == 2
    assert mcdrop("demo", "--request", "mnist").exit_code == 2


def test_without_scikit_learn_it_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; from mcdrop.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "demo", "--request", "digits"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "scikit-learn" in line
    assert "pip install 'mcdrop[eval]'" in line


@pytest.mark.slow
def test_a_model_is_trained_once_unless_forced(mcdrop, tmp_path):
    first = mcdrop("demo", "diabetes", "--output", tmp_path)
    assert first.exit_code == 0, first.stderr
    assert "root mean squared error" in first.stdout
    manifest = load(tmp_path / "diabetes" / "1").manifest
    again = mcdrop("demo", "diabetes", "--output", tmp_path, "--seed", 1)
    assert "is there already" in again.stdout
    assert load(tmp_path / "diabetes" / "1").manifest == manifest
    forced = mcdrop("demo", "diabetes", "--output", tmp_path, "--seed", 1, "--force")
    assert forced.exit_code == 0
    assert load(tmp_path / "diabetes" / "1").manifest.provenance["seed"] == "1"


@pytest.mark.slow
def test_a_request_can_be_predicted_from_its_file(mcdrop, tmp_path):
    mcdrop("demo", "diabetes", "--output", tmp_path)
    body = mcdrop("demo", "--request", "diabetes").stdout
    (tmp_path / "one.json").write_text(body)
    result = mcdrop("predict", tmp_path / "diabetes/1", tmp_path / "one.json", tmp_path / "o.json")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads((tmp_path / "o.json").read_text())
    assert 25 < row["mean"][0] < 346
