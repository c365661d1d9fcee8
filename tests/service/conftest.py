"""A real model repository and real servers: nothing in these tests stands in for the library."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from torch import nn

import mcdrop
from service import Settings, create_app
from service.access.keys import KeyScope, key_entry, new_key
from service.inference import Runtime

CLASSES = ("circle", "square", "star")


class Shapes(nn.Module):
    """Classification with one input."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x):
        return self.layers(x)


class Plain(Shapes):
    """Nothing to thin, so that no planner chooses: engines round differently in bfloat16."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.3))


class Meter(nn.Module):
    """Gaussian regression: mean and log-variance are the halves of the last axis."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 2))

    def forward(self, x):
        return self.layers(x)


class Pair(nn.Module):
    """Two inputs, one of them whole numbers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.dense = nn.Linear(4, 8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, x, ids):
        return self.head(self.dropout(self.dense(x) + self.embedding(ids).mean(1)))


class Tags(nn.Module):
    """A class for each token, of any number of tokens; the class axis comes last."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def _save(model, example, task, path, *, dynamic_axes=None, **card):
    captured = mcdrop.MCDropout(model, example_inputs=example, task=task, dynamic_axes=dynamic_axes)
    captured.save(path, name=path.parent.name, version=int(path.name), **card)


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """shapes/1, shapes/2 and a broken shapes/3, meter, pair, tags, brain, and broken."""
    root = tmp_path_factory.mktemp("repository")
    torch.manual_seed(0)
    for version in (1, 2):
        _save(
            Shapes(),
            (torch.randn(2, 4),),
            "classification",
            root / "shapes" / str(version),
            description=f"shapes, take {version}",
            classes=CLASSES,
            metrics={"test_accuracy": 0.5},
            provenance={"made_by": "tests"},
        )
    _save(Meter(), (torch.randn(2, 3),), "gaussian", root / "meter" / "1", samples=32, seed=7)
    ids = torch.zeros(2, 3, dtype=torch.int64)
    _save(Pair(), (torch.randn(2, 4), ids), "classification", root / "pair" / "1")
    _save(
        Tags(),
        (torch.randn(2, 5, 4),),
        mcdrop.tasks.Classification(dim=-1),
        root / "tags" / "1",
        classes=CLASSES,
        dynamic_axes={"x": {1: (2, 16)}},
    )
    brain = torch.randn(2, 4, dtype=torch.bfloat16)
    _save(Plain().bfloat16(), (brain,), "classification", root / "brain" / "1")
    (root / "shapes" / "3").mkdir()
    shutil.copytree(root / "meter" / "1", root / "broken" / "1")
    (root / "broken" / "1" / "weights.safetensors").write_bytes(b"not weights")
    return root


@dataclass
class Live:
    """A server in this process, on a real socket."""

    client: httpx.Client
    app: FastAPI
    port: int

    @property
    def runtime(self):
        runtime = self.app.state.runtime
        assert isinstance(runtime, Runtime)
        return runtime


@dataclass
class Admin:
    """A key that may do everything, and the file that it is in."""

    key: str
    path: Path


@pytest.fixture(scope="session")
def admin(tmp_path_factory):
    path, key = tmp_path_factory.mktemp("keys") / "keys.toml", new_key()
    path.write_text(key_entry("admin", key, KeyScope.ADMIN, None, None))
    path.chmod(0o600)
    return Admin(key, path)


@contextlib.contextmanager
def _start(settings, key=None):
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        headers = {"x-api-key": key} if key else {}
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=30, headers=headers) as client:
            _wait_until_ready(client)
            yield Live(client, app, port)
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def _wait_until_ready(client):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/health/ready").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not become ready")


@pytest.fixture(scope="session")
def start():
    """Start a server in this process: `with start(settings, key) as live`."""
    return _start


@pytest.fixture(scope="session")
def live(repository):
    with _start(Settings(models=repository, device="cpu", max_rows=8, max_samples=500)) as server:
        yield server


@pytest.fixture(scope="session")
def client(live):
    return live.client


@pytest.fixture(scope="session")
def alike():
    """Compare outputs up to rounding: the planner may have found a faster engine in between."""

    def check(found, expected):
        assert list(found) == list(expected)
        for name, values in found.items():
            if name in {"label", "set"}:
                assert values == expected[name]
            else:
                tensors = torch.tensor(values), torch.tensor(expected[name])
                torch.testing.assert_close(*tensors, rtol=1e-4, atol=1e-6)

    return check


@dataclass
class Process:
    """`python -m service` on a port of its own."""

    process: subprocess.Popen
    port: int
    lines: list[str]
    reading: threading.Thread

    def find(self, pattern):
        """The first match in what it logs, waited for."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, "".join(self.lines))):
            assert time.monotonic() < deadline, "".join(self.lines)
            time.sleep(0.05)
        return found

    def read_rest(self):
        self.process.wait(60)
        self.reading.join(60)
        return "".join(self.lines)


@contextlib.contextmanager
def _spawn(models, **settings):
    environment = os.environ | {
        f"MCDROP_{key.upper()}": str(value) for key, value in settings.items()
    }
    environment |= {"MCDROP_MODELS": str(models), "MCDROP_DEVICE": "cpu"}
    environment.setdefault("MCDROP_PORT", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "service"], env=environment, stderr=subprocess.PIPE, text=True
    )
    reading = None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise AssertionError(f"the server did not start: {''.join(lines)}")
        # a pipe that nobody reads stops the server when it is full
        reading = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        reading.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=30) as client:
            _wait_until_ready(client)
        yield Process(process, int(found[1]), lines, reading)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if reading is not None:
            reading.join(60)
        process.stderr.close()


@pytest.fixture(scope="session")
def spawn():
    """Start a server process: `with spawn(models, queue_size=1) as server`."""
    return _spawn


@pytest.fixture(scope="session")
def served(repository):
    with _spawn(repository) as server:
        yield server
