"""The Dockerfile, for real: built from a clean clone, run read-only and without root, queried.

`docker` is not needed, root and Debian are: `make docker-test`. The first run takes some minutes;
the base image and unchanged layers are kept in `.docker-test/`.
"""

import errno
import json
import re
import shutil
import signal
import time
import tomllib
import urllib.error

import pytest

from tests.docker.conftest import OURS, REPOSITORY
from tests.docker.container import call
from tests.docker.machine import run

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PACKAGES = "opt/mcdrop/lib/python3.11/site-packages"


def digits() -> tuple[list, list[int]]:
    """The last eight of scikit-learn's digits as the model takes them, and what they show."""
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    return (data.images[-8:, None] / 16).tolist(), data.target[-8:].tolist()


class TestConfiguration:
    def test_an_ordinary_user_by_number_runs_it(self, store, root):
        assert store.config()["User"] == f"{OURS}:{OURS}"
        assert f"mcdrop:x:{OURS}:{OURS}:" in (root / "etc/passwd").read_text()

    def test_the_server_is_process_1_itself(self, store):
        config = store.config()
        assert (config["Entrypoint"], config["Cmd"]) == (["mcdrop"], ["serve"])
        assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"]
        assert list(config["ExposedPorts"]) == ["8000/tcp", "8001/tcp"]

    def test_it_listens_to_the_outside_and_takes_the_mounted_models(self, store):
        environment = dict(entry.split("=", 1) for entry in store.config()["Env"])
        assert environment["MCDROP_HOST"] == "0.0.0.0"
        assert environment["MCDROP_MODELS"] == "/models"

    def test_labels_say_what_it_was_made_from(self, store):
        labels = store.config()["Labels"]
        assert labels["org.opencontainers.image.title"] == "mcdrop"
        assert labels["org.opencontainers.image.licenses"] == "MIT"
        assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])

    def test_nothing_of_the_building_machine_is_left(self, store, root, pip):
        told = json.dumps([store.config(), store.history()])
        secrets = [line.split(" = ")[1] for line in pip.text.splitlines() if " = " in line]
        assert not [text for text in secrets if len(text) > 4 and text in told]
        assert not (root / "etc/pip.conf").exists()


class TestFiles:
    def test_only_what_serving_needs(self, root):
        shipped = {path.name.lower() for path in (root / PACKAGES).iterdir()}
        assert {"torch", "mcdrop", "service", "fastapi", "grpc", "opentelemetry"} <= shipped
        tools = {"pip", "sklearn", "scipy", "matplotlib", "pytest", "mypy", "ruff", "transformers"}
        assert not tools & shipped

    def test_no_compilers_tests_or_caches(self, root):
        programs = {path.name for path in root.glob("*bin/*")} | {
            path.name for path in root.glob("usr/**/bin/*")
        }
        assert not {"gcc", "cc", "g++", "c++", "ld", "make", "cmake"} & programs
        assert not list(root.glob("opt/mcdrop/**/tests"))
        assert not list(root.glob("opt/mcdrop/**/include/torch"))
        assert not (root / "src").exists()
        assert not list(root.glob("root/.cache/*")) + list(root.glob("tmp/*"))

    def test_the_demo_models_are_inside(self, root):
        manifests = {
            path.relative_to(root).as_posix(): json.loads(path.read_text())
            for path in root.glob("models/*/*/model.json")
        }
        assert set(manifests) == {"models/digits/1/model.json", "models/diabetes/1/model.json"}
        assert manifests["models/digits/1/model.json"]["metrics"]["accuracy"] >= 0.97

    def test_anyone_may_read_and_our_user_owns_nothing(self, root):
        for path in [*root.glob("models/**/*"), *root.glob("opt/mcdrop/bin/*")]:
            status = path.stat()
            assert status.st_uid == 0
            assert status.st_mode & 0o044 == 0o044

    def test_its_size(self, store, report):
        layers = store.layers()
        for layer in layers:
            report(f"{layer.size / 1e6:9.1f} MB  {layer.made_by[:90]}")
        report(f"{sum(layer.size for layer in layers) / 1e6:9.1f} MB")
        packages, *ours = [layer.size for layer in layers if layer.made_by.startswith("COPY")]
        assert packages < 800e6, "torch grew, or something came in that serving does not need"
        assert sum(ours) < 20e6, "a change of code should move few bytes"


class TestRunning:
    def test_serves_the_demo_models_and_stops_when_told(self, start, report):
        container = start()
        report(f"healthy after {container.wait_until_healthy():.1f} s")
        images, labels = digits()
        answer = call(
            f"{container.url}/v1/models/digits/predict",
            {"inputs": images, "samples": 64, "seed": 0},
        )
        means = answer["outputs"]["mean"]
        right = [row.index(max(row)) == label for row, label in zip(means, labels, strict=True)]
        assert sum(right) >= 7
        assert answer["samples"] == [64] * 8
        assert all(entropy > 0 for entropy in answer["outputs"]["entropy"])

        begin = time.monotonic()
        assert container.stop(signal.SIGTERM) == 0, container.log()
        report(f"stopped after {time.monotonic() - begin:.1f} s")

    def test_the_root_is_read_only_and_the_user_is_not_root(self, start):
        container = start()
        container.wait_until_healthy()
        status = container.execute("cat", "/proc/1/status").stdout
        assert f"Uid:\t{OURS}\t{OURS}\t{OURS}\t{OURS}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        command = container.execute("cat", "/proc/1/cmdline").stdout.split("\0")
        assert "serve" in command
        probe = "import os; os.open('/models/x', os.O_CREAT | os.O_WRONLY)"
        failed = container.execute("python3", "-c", probe)
        assert f"[Errno {errno.EROFS}]" in failed.stderr

    def test_serves_the_models_mounted_at_models(self, start, root, tmp_path):
        models = tmp_path / "models"
        shutil.copytree(root / "models/diabetes", models / "diabetes")
        container = start(volumes={"/models": models})
        container.wait_until_healthy()
        listed = call(f"{container.url}/v1/models")["models"]
        assert [model["name"] for model in listed] == ["diabetes"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            call(f"{container.url}/v1/models/digits")

    def test_any_other_user_may_run_it(self, start):
        start(user="54321:0").wait_until_healthy()

    def test_prints_the_settings_in_force(self, start):
        container = start(command=["serve", "--print-config"], settings={"MCDROP_MAX_ROWS": 7})
        assert container.wait() == 0
        settings = tomllib.loads(container.log())
        assert (settings["host"], settings["drain_seconds"], settings["max_rows"]) == (
            "0.0.0.0",
            8,
            7,
        )

    def test_is_not_healthy_without_a_server(self, start):
        container = start(command=["--help"])
        container.wait()
        assert not container.healthy()
        assert "serve" in container.log()

    def test_says_what_is_wrong_with_an_empty_models_folder(self, start, tmp_path):
        (tmp_path / "empty").mkdir()
        container = start(volumes={"/models": tmp_path / "empty"})
        assert container.wait() != 0
        assert "/models" in container.log()
        assert "Traceback" not in container.log()


def test_an_unknown_variant_stops_the_build(store, pip, tmp_path):
    clone = tmp_path / "mcdrop"
    run("git", "clone", "--quiet", "--no-hardlinks", REPOSITORY, clone)
    with pytest.raises(AssertionError, match="VARIANT is cpu or gpu, not 'tpu'"):
        store.build(clone, pip, VARIANT="tpu")
