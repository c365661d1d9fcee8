import csv
import json
import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdrop.loading import load


@pytest.fixture
def rows(tmp_path):
    array = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    np.save(tmp_path / "rows.npy", array)
    return array


def test_answers_are_those_of_the_library(mcdrop, artifacts, tmp_path, rows):
    output = tmp_path / "out.npz"
    result = mcdrop("predict", artifacts / "classes" / "1", tmp_path / "rows.npy", output)
    assert result.exit_code == 0, result.stderr
    expected = load(artifacts / "classes" / "1").predict(torch.from_numpy(rows)).fields()
    with np.load(output) as found:
        assert set(found.files) == {"predicted", *expected}
        for name, tensor in expected.items():
            np.testing.assert_allclose(found[name], tensor.numpy(), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(found["predicted"], expected["mean"].argmax(-1))
    assert "10 rows x 16 samples" in result.stderr
    assert result.stdout == ""


def test_batches_samples_and_seed(mcdrop, artifacts, tmp_path, rows):
    found = []
    for name, batch, seed in (("a", 3, 5), ("b", 10, 5), ("c", 10, 6)):
        output = tmp_path / f"{name}.npz"
        args = ("--batch-size", batch, "--seed", seed, "--samples", 40)
        result = mcdrop("predict", artifacts / "classes/1", tmp_path / "rows.npy", output, *args)
        assert result.exit_code == 0, result.stderr
        found.append(dict(np.load(output)))
    np.testing.assert_allclose(found[0]["mean"], found[1]["mean"], rtol=1e-5)
    assert np.abs(found[1]["mean"] - found[2]["mean"]).max() > 1e-4
    assert set(found[0]["samples"]) == {40}


def test_regression_has_an_interval(mcdrop, artifacts, tmp_path, rows):
    output = tmp_path / "out.csv"
    result = mcdrop("predict", artifacts / "number/1", tmp_path / "rows.npy", output)
    assert result.exit_code == 0, result.stderr
    with output.open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert len(answers) == 10
    for row in answers:
        mean, half = float(row["mean"]), 1.6448536 * float(row["variance"]) ** 0.5
        assert float(row["lower"]) == pytest.approx(mean - half, rel=1e-4)
        assert float(row["upper"]) == pytest.approx(mean + half, rel=1e-4)
        total = float(row["epistemic"]) + float(row["aleatoric"])
        assert float(row["variance"]) == pytest.approx(total, rel=1e-5)
    wider = tmp_path / "wider.csv"
    mcdrop("predict", artifacts / "number/1", tmp_path / "rows.npy", wider, "--interval", 0.99)
    with wider.open(newline="") as file:
        assert float(next(csv.DictReader(file))["lower"]) < float(answers[0]["lower"])


def test_several_outputs_are_numbered_in_csv(mcdrop, artifacts, tmp_path, rows):
    output = tmp_path / "out.csv"
    result = mcdrop("predict", artifacts / "numbers/1", tmp_path / "rows.npy", output)
    assert result.exit_code == 0, result.stderr
    assert output.read_text().startswith("mean_0,mean_1,variance_0,variance_1,")


def test_classes_are_named_in_json(mcdrop, artifacts, tmp_path, rows):
    output = tmp_path / "out.json"
    result = mcdrop("predict", artifacts / "classes/1", tmp_path / "rows.npy", output)
    assert result.exit_code == 0, result.stderr
    answers = json.loads(output.read_text())
    assert {row["predicted"] for row in answers} <= {"cat", "dog", "owl, barn"}


def test_several_inputs(mcdrop, artifacts, tmp_path):
    ids, scale = torch.randint(10, (4, 5)), torch.rand(4, 3)
    save_file({"ids": ids, "scale": scale}, tmp_path / "rows.safetensors")
    output = tmp_path / "out.npz"
    result = mcdrop("predict", artifacts / "pair/1", tmp_path / "rows.safetensors", output)
    assert result.exit_code == 0, result.stderr
    expected = load(artifacts / "pair/1").predict((ids, scale)).mean
    np.testing.assert_allclose(np.load(output)["mean"], expected, rtol=1e-5)


def test_pixels_are_too_deep_for_csv_and_nothing_is_left(mcdrop, artifacts, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((3, 1, 4, 4), np.float32))
    run = ("predict", artifacts / "pixels/1", tmp_path / "rows.npy")
    result = mcdrop(*run, tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "too deep for a CSV: use .npz" in result.stderr
    assert mcdrop(*run, tmp_path / "out.npz").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", "out.npz"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "rows.csv: line 2 has 3 values, expected 4"),
        ("a,b,c,d\n1,2,3,nan\n", "rows.csv: line 2 value 4 is nan"),
    ],
)
def test_bad_rows_are_told_by_line(mcdrop, artifacts, tmp_path, text, message):
    (tmp_path / "rows.csv").write_text(text)
    result = mcdrop("predict", artifacts / "classes/1", tmp_path / "rows.csv", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_an_existing_output_is_kept_unless_forced(mcdrop, artifacts, tmp_path, rows):
    output = tmp_path / "out.csv"
    output.write_text("before")
    run = ("predict", artifacts / "classes/1", tmp_path / "rows.npy", output)
    refused = mcdrop(*run)
    assert refused.exit_code == 1
    assert "replace it with --force" in refused.stderr
    assert output.read_text() == "before"
    assert mcdrop(*run, "--force").exit_code == 0
    assert output.read_text() != "before"


@pytest.mark.parametrize("device", ["cuda:77", "nonsense"])
def test_a_device_that_is_not_there_is_told(mcdrop, artifacts, tmp_path, rows, device):
    result = mcdrop(
        "predict", artifacts / "classes/1", tmp_path / "rows.npy", tmp_path / "o.csv",
        "--device", device,
    )  # fmt: skip
    assert result.exit_code == 1
    assert device in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interval_outside_of_0_and_1_is_a_usage_error(mcdrop, artifacts, tmp_path, rows):
    result = mcdrop(
        "predict", artifacts / "number/1", tmp_path / "rows.npy", tmp_path / "o.csv",
        "--interval", 1,
    )  # fmt: skip
    assert result.exit_code == 2


def test_a_terminal_sees_a_bar_with_rate_and_time_left(artifacts, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((500, 4), np.float32))
    ours, theirs = pty.openpty()
    command = [
        sys.executable, "-c", "from mcdrop.cli import main; main()", "predict",
        str(artifacts / "classes/1"), str(tmp_path / "rows.npy"), str(tmp_path / "out.npz"),
        "--batch-size", "50",
    ]  # fmt: skip
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:  # how a pty says that the other side has closed
            pass
    os.close(ours)
    assert process.returncode == 0
    text = seen.decode()
    assert "predicting" in text
    assert "rows·samples/s" in text
    assert "100%" in text
    assert "left" in text
    assert "500 rows x 16 samples" in text


def test_sigterm_leaves_no_file_behind(artifacts, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((5000, 4), np.float32))
    command = [
        sys.executable, "-c", "from mcdrop.cli import main; main()", "predict",
        str(artifacts / "classes/1"), str(tmp_path / "rows.npy"), str(tmp_path / "out.csv"),
        "--samples", "100000", "--batch-size", "1",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.csv.*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.terminate()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize("output", ["nowhere/out.csv", "."])
def test_a_place_that_takes_no_file_is_told_first(mcdrop, tmp_path, output):
    result = mcdrop("predict", tmp_path / "no_artifact", tmp_path / "no_rows", tmp_path / output)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"mcdrop: {tmp_path / output}")
