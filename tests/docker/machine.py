"""What the machine lends to a build: its tools, its Debian mirror, how its pip finds packages.

Nothing of it is written down here. It is read from the machine's own configuration when the test
runs, and reaches the build as a secret and as mounts, which stay out of every layer.
"""

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOOLS = {
    "buildah": "buildah",
    "crun": "crun",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
}


def run(*command: str | Path, timeout: float = 120) -> str:
    """Run a command to its end and return what it printed; its errors become the test's."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout


def missing_tools() -> str | None:
    """Install what is missing; say why this machine cannot build images, if it cannot."""
    if os.geteuid() != 0:
        return "building and running images needs root"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not missing:
        return None
    if shutil.which("apt-get") is None:
        return f"{', '.join(missing)} not installed, and there is no apt-get to install them"
    try:
        run("apt-get", "update", "-q", timeout=300)
        run("apt-get", "install", "-qy", "--no-install-recommends", *missing, timeout=600)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        return f"{', '.join(missing)} cannot be installed: {str(error).splitlines()[-1]}"
    return None


def debian_mirror(suite: str) -> str:
    """The mirror that apt has for a suite, or debootstrap's own default."""
    targets = run(
        "apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    )  # fmt: skip
    for line in targets.splitlines():
        codename, component, uri = line.split(maxsplit=2)
        if (codename, component) == (suite, "main"):
            return uri
    return ""


@dataclass(frozen=True, slots=True)
class PipSettings:
    """How this machine's pip finds packages: a configuration file and the paths it speaks of."""

    text: str
    paths: tuple[Path, ...]

    @classmethod
    def of_machine(cls) -> "PipSettings":
        """Merge every level of `pip config list`, lists appended, the environment's word last."""
        listed = run(sys.executable, "-m", "pip", "config", "list")
        values: dict[str, list[str]] = {}
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            merged = values.setdefault(name.rsplit(".", 1)[-1], [])
            text = str(ast.literal_eval(value))
            if name.endswith((".find-links", ".extra-index-url")):
                merged += [word for word in text.split() if word not in merged]
            else:
                merged[:] = [text]
        text = "[global]\n" + "".join(f"{k} = {' '.join(v)}\n" for k, v in values.items())
        words = [word for merged in values.values() for word in merged]
        return cls(text, tuple(dict.fromkeys(filter(None, map(_local_path, words)))))


def _local_path(word: str) -> Path | None:
    """The folder or file to mount for a setting's value; an index on disk has files beside it."""
    is_index = word.startswith("file:")
    path = Path(unquote(urlsplit(word).path)).parent if is_index else Path(word)
    return path if path.is_absolute() and path.exists() else None
