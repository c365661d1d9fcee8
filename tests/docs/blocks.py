"""Code blocks of a document, and a server to run them against."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str


def blocks_of(document: str) -> list[Block]:
    return [Block(language, text) for language, text in _BLOCK.findall(document)]


def block_of(document: str, start: str) -> str:
    """The one block that starts so."""
    found = [block.text for block in blocks_of(document) if block.text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks start with {start!r}"
    return found[0]


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    def run(self, command: str) -> Any:
        """A command of the README against this server, its answer read as JSON."""
        return json.loads(self.text(command))

    def text(self, command: str) -> str:
        """The same, its answer as it is."""
        command = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return result.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(port: int, process: subprocess.Popen[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server stopped"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"not ready within {seconds} s")


@contextlib.contextmanager
def serving(command: str, cwd: Path, seconds: float) -> Iterator[Server]:
    port = _free_port()
    environment = {**os.environ, "MCDROP_PORT": str(port), "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=cwd, env=environment, start_new_session=True, text=True
    )
    try:
        _wait_until_ready(port, process, seconds)
        yield Server(port)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)
