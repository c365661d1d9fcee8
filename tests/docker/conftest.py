"""The image, built once, and containers of it."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.container import Container
from tests.docker.image import IMAGE, Store
from tests.docker.machine import PipSettings, missing_tools, run

REPOSITORY = Path(__file__).resolve().parents[2]
OURS = 10001  # the image's user and group


@pytest.fixture(scope="session")
def pip() -> PipSettings:
    return PipSettings.of_machine()


@pytest.fixture(scope="session")
def store(pip: PipSettings, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that holds the image, built from what is committed and nothing else."""
    if reason := missing_tools():
        pytest.skip(reason)
    store = Store(REPOSITORY / ".docker-test")
    store.make_base()
    clone = tmp_path_factory.mktemp("clone") / "mcdrop"
    run("git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, clone)
    revision = run("git", "-C", clone, "rev-parse", "HEAD").strip()
    store.build(clone, pip, REVISION=revision)
    return store


@pytest.fixture
def report(capsys: pytest.CaptureFixture) -> Callable[[str], None]:
    """Print a figure where it is seen also when the test passes."""

    def report(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")

    return report


@pytest.fixture(scope="session")
def root(store: Store) -> Iterator[Path]:
    """The image's files."""
    with store.mounted(IMAGE) as (_, root):
        yield root


Start = Callable[..., Container]


@pytest.fixture
def start(store: Store, root: Path, tmp_path: Path) -> Iterator[Start]:
    """Start containers that end with the test."""
    containers: list[Container] = []

    def start(**options) -> Container:
        folder = tmp_path / f"mcdrop-{free_port()}"
        folder.mkdir()
        container = Container(folder, root, store.config(), port=free_port(), **options)
        containers.append(container)
        return container

    yield start
    for container in containers:
        container.remove()


def free_port() -> int:
    with socket.create_server(("", 0)) as listener:
        return listener.getsockname()[1]
