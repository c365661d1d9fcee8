"""Running an image as `docker run --read-only --tmpfs /tmp --cap-drop ALL` would, without Docker.

crun, an OCI runtime, gets the image's own user, environment, entry point and working directory. The
root is mounted read-only, /tmp is a tmpfs, no capability is left and none can be gained; the
server is process 1 of its own PID namespace, as in a container of Docker's. Not as in Docker: the
network is the machine's own (so the port is chosen per container with MCDROP_PORT), there is no
seccomp profile, and no cgroup, as crun 1.8 does not start on a machine with both cgroup versions.
"""

import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.docker.machine import run

# 127.0.0.1 would also answer for a server that listens there only; this one is 0.0.0.0's
ADDRESS = "127.0.0.2"


def call(url: str, body: dict | None = None, **headers: str) -> dict:
    """Ask for JSON; dashes in headers' names are underscores here."""
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **named})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


class Container:
    """A running container; stop it with a signal and look at its exit code and log."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        image: dict,
        *,
        port: int,
        settings: dict[str, object] | None = None,
        **options,
    ) -> None:
        self.name = folder.name
        self.image = image
        self.url = f"http://{ADDRESS}:{port}"
        self._state = folder / "state"
        self._log = folder / "log"
        environment = [*image["Env"], f"MCDROP_PORT={port}"]
        environment += [f"{name}={value}" for name, value in (settings or {}).items()]
        spec = _spec(root, image, environment, **options)
        (folder / "config.json").write_text(json.dumps(spec))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._crun("run", "--bundle", str(folder), self.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        return self._log.read_text()

    def execute(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command inside, as the image's user, as `docker exec` does."""
        return subprocess.run(
            self._crun("exec", self.name, *command),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def healthy(self) -> bool:
        """What the image's own HEALTHCHECK says now."""
        kind, *command = self.image["Healthcheck"]["Test"]
        assert kind == "CMD", "a shell in between would be one more thing to ship"
        return self.execute(*command).returncode == 0

    def wait_until_healthy(self, seconds: float = 60) -> float:
        """Poll as an engine does; return how long it took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if self._process.poll() is not None:
                raise AssertionError(f"ended with {self._process.returncode}:\n{self.log()}")
            if self.healthy():
                return time.monotonic() - begin
            time.sleep(0.2)
        raise AssertionError(f"not healthy within {seconds} s:\n{self.log()}")

    def wait(self, seconds: float = 60) -> int:
        """Wait for it to end by itself and return its exit code."""
        return self._process.wait(seconds)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until the log holds a text."""
        begin = time.monotonic()
        while text not in self.log():
            assert time.monotonic() - begin < seconds, f"no {text!r} in:\n{self.log()}"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> int:
        """Send a signal to process 1 and return the exit code, as `docker stop` does."""
        run(*self._crun("kill", self.name, str(int(number))))
        return self.wait(seconds)

    def remove(self) -> None:
        """End it, if it runs still, and forget it."""
        if self._process.poll() is None:
            subprocess.run(self._crun("kill", self.name, "9"), check=False, capture_output=True)
            self._process.wait(10)
        subprocess.run(self._crun("delete", "--force", self.name), check=False, capture_output=True)

    def _crun(self, *arguments: str) -> list[str]:
        hide_cgroups = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
        return [
            "unshare", "--mount", "sh", "-c", hide_cgroups, "sh",
            "crun", "--root", str(self._state), "--cgroup-manager=disabled", *arguments,
        ]  # fmt: skip


def _spec(
    root: Path,
    image: dict,
    environment: list[str],
    *,
    user: str | None = None,
    volumes: dict[str, Path] | None = None,
    command: list[str] | None = None,
) -> dict:
    uid, gid = (int(number) for number in (user or image["User"]).split(":"))
    private = ["nosuid", "noexec", "nodev"]
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755", "size=64k"),
        _mount("/dev/shm", "tmpfs", "shm", *private, "mode=1777", "size=64m"),
        _mount("/tmp", "tmpfs", "tmpfs", *private, "mode=1777"),
        _mount("/sys", "sysfs", "sysfs", *private, "ro"),
    ]
    for place, path in (volumes or {}).items():
        mounts.append(_mount(place, "bind", str(path), "rbind", "ro"))
    nothing = {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable")}
    return {
        "ociVersion": "1.0.0",
        "root": {"path": str(root), "readonly": True},
        "hostname": "mcdrop",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": image["Entrypoint"] + (command or image["Cmd"]),
            "env": environment,
            "cwd": image["WorkingDir"] or "/",
            "noNewPrivileges": True,
            "capabilities": nothing,
        },
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
