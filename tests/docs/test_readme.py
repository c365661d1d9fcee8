"""Every block of the README is executed, and what it shows is what comes out.

`EXECUTED` says how each block is dealt with; a block that it does not know fails the test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import BIN, ROOT, Server, block_of, blocks_of, serving

README = (ROOT / "README.md").read_text(encoding="utf-8")

# By the beginning of the block: the test that executes it, or compares with it.
EXECUTED = {
    "make serve": "test_make_serve_answers",
    "make test": "test_make_test_runs_the_tests",
    ".venv/bin/mcdrop demo --request digits": "test_the_predict_example_answers_as_shown",
    '{"id"': "test_the_predict_example_answers_as_shown",
    "curl -s http://127.0.0.1:8000/v2": "test_the_infer_example_answers_as_shown",
    '{"model_name"': "test_the_infer_example_answers_as_shown",
    "import torch": "test_the_library_example_runs_as_shown",
    "x = torch.randn": "test_the_library_example_runs_as_shown",
    "x, y = torch.randn": "test_the_library_example_runs_as_shown",
    "print(mcdrop.audit": "test_the_library_example_runs_as_shown",
    "Sequential:": "test_the_library_example_runs_as_shown",
    "# nets.py": "test_bring_your_own_model",
    "mcdrop audit": "test_bring_your_own_model",
    "mcdrop predict": "test_bring_your_own_model",
    "docker build": "test_the_docker_commands_are_those_that_are_proven",
}


def _block(start: str) -> str:
    return block_of(README, start)


def test_every_block_is_executed() -> None:
    for block in blocks_of(README):
        known = [start for start in EXECUTED if block.text.startswith(start)]
        assert len(known) == 1, f"no test executes the block:\n{block.text}"
        assert EXECUTED[known[0]] in globals()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """`make serve`, as the README has it."""
    with serving(_block("make serve"), ROOT, seconds=600) as running:
        yield running


@pytest.mark.slow
def test_make_serve_answers(server: Server) -> None:
    models = server.run("curl -s http://127.0.0.1:8000/v1/models")
    assert {model["name"] for model in models["models"]} == {"digits", "diabetes"}


@pytest.mark.slow
def test_the_predict_example_answers_as_shown(server: Server) -> None:
    got = server.run(_block(".venv/bin/mcdrop demo --request digits"))
    shown = json.loads(_block('{"id"'))
    _same_shape(got, shown)
    assert got["outputs"]["label"] == shown["outputs"]["label"]
    # training on another processor gives another model, nearly as good
    assert max(got["outputs"]["mean"][0]) == pytest.approx(
        max(shown["outputs"]["mean"][0]), abs=0.2
    )


@pytest.mark.slow
def test_the_infer_example_answers_as_shown(server: Server) -> None:
    got = server.run(_block("curl -s http://127.0.0.1:8000/v2"))
    shown = json.loads(_block('{"model_name"'))
    _same_shape(got, shown)
    for ours, theirs in zip(got["outputs"], shown["outputs"], strict=True):
        assert ours["name"] == theirs["name"]
    assert got["outputs"][0]["data"][0] == pytest.approx(shown["outputs"][0]["data"][0], rel=0.3)


@pytest.mark.slow
def test_noise_is_less_certain_than_digits_over_http(server: Server) -> None:
    """What the README says below the example, on all test digits against noise."""
    import torch

    from mcdrop.demo.data import digits

    images, truths = digits().test
    noise = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    real = server_predict(server, images.tolist())
    odd = server_predict(server, noise.tolist())
    for score in ("mutual_information", "entropy"):
        assert _mean(odd[score]) > 5 * _mean(real[score])
    labels = [int(label) for label in real["label"]]
    right = [guess == truth for guess, truth in zip(labels, truths.tolist(), strict=True)]
    assert sum(right) / len(right) >= 0.97
    for score in ("mutual_information", "entropy"):
        by_right = {
            flag: _mean([s for s, r in zip(real[score], right, strict=True) if r is flag])
            for flag in (True, False)
        }
        assert by_right[False] > 2 * by_right[True]


def server_predict(server: Server, rows: list[Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/models/digits/predict",
        json.dumps({"inputs": rows}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        outputs: dict[str, Any] = json.load(answer)["outputs"]
        return outputs


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _same_shape(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            _same_shape(a[key], b[key])
    if isinstance(a, list):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            _same_shape(left, right)


def test_make_test_runs_the_tests() -> None:
    """CI runs the command itself (this very run); here: it is the test runner on this folder."""
    command = ["make", "--dry-run", *_block("make test").split()[1:]]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m pytest tests mcdrop service" in plan


def test_the_library_example_runs_as_shown() -> None:
    namespace: dict[str, Any] = {}
    exec(_block("import torch"), namespace)
    p = namespace["p"]
    shapes = [list(t.shape) for t in (p.mean, p.entropy, p.mutual_information)]
    assert shapes == [[8, 3], [8], [8]]
    shown = _block("import torch").splitlines()[-1].split("# ")[1]
    assert shown == ", ".join(map(str, shapes))
    plan = io.StringIO()
    with contextlib.redirect_stdout(plan):
        exec(_block("x = torch.randn"), namespace)
    for word in ("at a time", "trunk", "thinned", "ms a sample"):
        assert word in plan.getvalue()
    stopped = namespace["p"].samples
    assert (stopped % 16 == 0).all()
    assert 64 <= stopped.min() <= stopped.max() < 1024
    assert namespace["partial"].samples.tolist() == [128] * 8
    assert namespace["exact"].predict(namespace["x"]).samples.tolist() == [0] * 8
    exec(_block("x, y = torch.randn"), namespace)
    assert namespace["mc"].calibration is not None
    assert list(namespace["p"].mean.shape) == [200, 3]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(_block("print(mcdrop.audit"), namespace)
    assert _measures_aside(printed.getvalue()) == _measures_aside(_block("Sequential:"))


def _measures_aside(table: str) -> list[str]:
    """Lines without what depends on the weights: percentages, and how wide they are."""
    plain = re.sub(r"[\d.]+%", "%", table)
    return [re.sub(r"[ ━─]+", " ", line).strip() for line in plain.splitlines()]


@pytest.mark.slow
def test_bring_your_own_model(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(_block("# nets.py"))
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n6.2,2.9,4.3,1.3\n")
    *commands, serve = _block("mcdrop audit").strip().splitlines()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    for command in (*commands, _block("mcdrop predict")):
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=environment, check=True
        )
    assert len((tmp_path / "answers.csv").read_text().strip().splitlines()) == 3
    with serving(serve, tmp_path, seconds=60) as server:
        models = server.run("curl -s http://127.0.0.1:8000/v1/models")
    assert [model["name"] for model in models["models"]] == ["iris"]


def test_the_docker_commands_are_those_that_are_proven() -> None:
    """`make docker-test` builds and runs the image; here: the flags are those of the Dockerfile."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    for argument in re.findall(r"--build-arg (\w+)=", _block("docker build")):
        assert re.search(rf"^ARG {argument}\b", dockerfile, re.MULTILINE), argument
    assert "EXPOSE 8000" in dockerfile
    assert "/models" in dockerfile
    for line in _block("docker build").splitlines():
        subprocess.run(["bash", "-nc", line], check=True)


def test_the_benchmark_table_shows_the_committed_results() -> None:
    """`python -m benchmarks.report` writes it."""
    from benchmarks import record, report

    made = report.blocks(record.read(record.RESULTS / "cpu.jsonl"))
    assert "<!-- benchmarks: summary -->" in README
    assert report.filled(README, {"summary": made["summary"]}) == README
