"""Server processes: started, paused while the other one is measured, weighed and stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Server:
    """A server in a session of its own, with all of its processes."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    path: str = ""  # that predictions are asked at, if it is not mcdrop's

    def pause(self) -> None:
        """Stop all of its processes where they are: an idle server must not take our cores."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def resident(self) -> int:
        """Bytes of memory that its processes hold, shared pages counted in each."""
        return resident(self.process.pid)

    def terminate(self, wait: float = 60.0) -> int:
        """Ask it to stop, as an operator does, and wait for its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(wait)


def resident(session: int) -> int:
    """Bytes of memory that the processes of a session hold."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # after the name, which may hold blanks: state, parent, group, session
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * _PAGE
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


@contextlib.contextmanager
def mcdrop_server(models: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`python -m service` from this checkout; `MCDROP_…` of the environment hold for it too."""
    environment = {"MCDROP_LOG_LEVEL": "warning", **os.environ, **(settings or {})}
    environment |= {"MCDROP_MODELS": str(models), "MCDROP_HOST": "127.0.0.1"}
    environment["MCDROP_PORT"] = str(port := free_port())
    command = [sys.executable, "-m", "service"]
    with _running("mcdrop", command, port, environment, "/health/ready") as server:
        yield server


@contextlib.contextmanager
def litserve_server(
    python: Path, arguments: Sequence[str], wait: float = 120.0
) -> Iterator[Server]:
    """`benchmarks.serving.litserve_app` in the environment that has LitServe."""
    port = free_port()
    command = [str(python), "-m", "benchmarks.serving.litserve_app", "--port", str(port)]
    with _running(
        "LitServe", [*command, *arguments], port, dict(os.environ), "/health", wait
    ) as server:
        server.path = "/predict"
        yield server


@contextlib.contextmanager
def _running(
    name: str,
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    health: str,
    wait: float = 120.0,
) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        server = Server(name, process, port, log)
        try:
            _await(server, health, wait)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.resume()
                server.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(15)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(server: Server, health: str, wait: float) -> None:
    deadline = time.monotonic() + wait
    while server.process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", health)
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    tail = server.log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{server.name} did not become ready on port {server.port}:\n{tail}")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(slots=True)
class Scale:
    """Weighs a server again and again, on a thread."""

    server: Server
    every: float = 0.5
    times: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._weigh, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _weigh(self) -> None:
        while not self._done.is_set():
            self.times.append(time.monotonic())
            self.bytes.append(self.server.resident())
            self._done.wait(self.every)
