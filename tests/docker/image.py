"""Making images without a Docker engine: debootstrap for the base, buildah for the Dockerfile."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docker.machine import PipSettings, debian_mirror, run

SUITE = "bookworm"
BASE = "localhost/mcdrop-test-base"
IMAGE = "localhost/mcdrop-test"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and the instruction that made it, or the base."""

    made_by: str
    size: int


class Store:
    """A buildah store of its own in a folder, so that the machine's images stay as they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def buildah(self, *arguments: str | Path, timeout: float = 120) -> str:
        where = ("--root", self.folder / "storage", "--runroot", self.folder / "run")
        return run("nice", "-n", "10", "buildah", *where, *arguments, timeout=timeout).strip()

    def has(self, image: str) -> bool:
        return bool(self.buildah("images", "--quiet", "--filter", f"reference={image}"))

    def make_base(self) -> None:
        """Make the base image, Debian with its own Python, unless it was made before."""
        if self.has(BASE):
            return
        with self.mounted("scratch") as (container, root):
            run(
                "debootstrap", "--variant=minbase", "--include=python3,python3-venv", SUITE, root,
                *filter(None, [debian_mirror(SUITE)]), timeout=900,
            )  # fmt: skip
            for leftovers in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
                for path in root.glob(leftovers):
                    path.unlink()
            self.buildah("commit", "--quiet", container, BASE, timeout=300)

    def build(self, source: Path, pip: PipSettings, **build_args: str) -> None:
        """Build `source`'s Dockerfile on the base; layers of earlier builds are used again."""
        secret = self.folder / "pip.conf"
        secret.write_text(pip.text)
        arguments = [f"--volume={path}:{path}:ro" for path in pip.paths]
        arguments += [f"--build-arg={name}={value}" for name, value in build_args.items()]
        # HEALTHCHECK is a notion of Docker's format, which OCI's does not have
        self.buildah(
            "bud", "--isolation", "chroot", "--layers", "--force-rm", "--format", "docker",
            "--tag", IMAGE,
            f"--secret=id=pip.conf,src={secret}", f"--build-arg=BASE_IMAGE={BASE}", *arguments,
            source, timeout=3000,
        )  # fmt: skip

    def config(self) -> dict:
        """The image's configuration, as `docker image inspect` shows it under `Config`."""
        return self._inspect()["Docker"]["config"]

    def history(self) -> list[str]:
        """What made each layer, the base's first; instructions without a layer too."""
        return [entry.get("created_by", "") for entry in self._inspect()["History"]]

    def layers(self) -> list[Layer]:
        """Size of each layer's files, in bytes, from the base up."""
        made_by = [
            entry.get("created_by", "").removeprefix("/bin/sh -c ").removeprefix("#(nop) ")
            for entry in self._inspect()["History"]
            if not entry.get("empty_layer")
        ]
        made_by[0] = "the base image"
        sizes = [layer["size"] for layer in json.loads(self._inspect()["Manifest"])["layers"]]
        return [Layer(*pair) for pair in zip(made_by, sizes, strict=True)]

    @contextmanager
    def mounted(self, image: str = IMAGE):
        """A container of the image, as its name and the path of its root."""
        container = self.buildah("from", "--pull-never", image)
        try:
            yield container, Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)

    def _inspect(self) -> dict:
        return json.loads(self.buildah("inspect", "--type", "image", IMAGE))
