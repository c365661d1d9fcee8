"""The page on serving: every block is executed, against the demo models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import BIN, ROOT, Server, block_of, blocks_of, serving

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
_ROW = """curl -s 127.0.0.1:8000/v1/models/diabetes/predict --json '{
  "inputs": [[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87]],
  "samples": """
INTERVAL, DEADLINE, STREAM = f"{_ROW}256", f"{_ROW}10000", "curl -sN"
NPY, TRITON, PIN, KEYS = "import io", "import numpy", "curl -s -X POST", "mcdrop key"
STARTS = (INTERVAL, DEADLINE, STREAM, NPY, TRITON, PIN, KEYS)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    _run("mcdrop demo --output models", folder)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving("mcdrop serve --models models", folder, seconds=120) as running:
        yield running


def _run(command: str, folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_every_block_is_executed() -> None:
    for block in blocks_of(PAGE):
        assert sum(block.text.startswith(start) for start in STARTS) == 1, block.text


def test_an_interval(server: Server) -> None:
    outputs = server.run(block_of(PAGE, INTERVAL))["outputs"]
    assert outputs["lower"] < outputs["mean"] < outputs["upper"]


def test_a_deadline(server: Server) -> None:
    answer = server.run(block_of(PAGE, DEADLINE))
    assert 16 <= answer["samples"][0] <= 10_000


def test_a_stream(server: Server) -> None:
    lines = server.text(block_of(PAGE, STREAM)).splitlines()
    assert "event: final" in lines
    assert json.loads(lines[-2].removeprefix("data: "))["samples"] == [64]


@pytest.mark.parametrize(("start", "said"), [(NPY, "256"), (TRITON, "[[")])
def test_python(server: Server, start: str, said: str) -> None:
    pytest.importorskip("tritonclient.http" if start == TRITON else "httpx")
    text = block_of(PAGE, start).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60
    )
    assert said in done.stdout


def test_keys_and_a_pin(folder: Path) -> None:
    operator, shop = _run(block_of(PAGE, KEYS), folder).split()
    command = "mcdrop serve --models models --api-keys keys.toml"
    with serving(command, folder, seconds=120) as locked:
        pin = block_of(PAGE, PIN)
        assert locked.run(f"ADMIN={operator}\n{pin}")["pinned"] == 1
        assert "admin" in locked.run(f"ADMIN={shop}\n{pin}")["detail"]
    assert (folder / "models" / "digits" / "pin").read_text().strip() == "1"
