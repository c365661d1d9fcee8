"""The folder is watched: what is published is served without a word to the server."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from service import Settings

ROWS = [[0.1, -0.2, 0.3, 0.4]]


@pytest.fixture
def models(repository, tmp_path):
    shutil.copytree(repository / "shapes" / "1", tmp_path / "shapes" / "1")
    return tmp_path


@pytest.fixture
def live(start, models, admin):
    settings = Settings(
        models=models, device="cpu", watch_seconds=0.1, warmup_rows=0, api_keys=admin.path
    )
    with start(settings, admin.key) as found:
        yield found


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answering(live, model="shapes"):
    response = live.client.post(f"/v1/models/{model}/predict", json={"inputs": ROWS})
    return response.json().get("version", response.status_code)


def description(live, model="shapes"):
    return live.client.get(f"/v1/models/{model}").json()["description"]


def test_a_copy_that_is_no_rename_is_served_when_it_is_whole(live, models, repository):
    source, target = repository / "shapes" / "2", models / "shapes" / "2"
    target.mkdir()
    shutil.copy(source / "model.json", target)
    until(lambda: live.client.get("/v1/models/shapes/versions/2").status_code == 200)
    until(lambda: live.runtime.registry.find("shapes", 2).state == "unavailable")
    assert answering(live) == 1
    for name in ("graph.json", "weights.safetensors"):
        shutil.copy(source / name, target)
    until(lambda: answering(live) == 2)
    shutil.rmtree(target)
    until(lambda: live.client.get("/v1/models/shapes/versions/2").status_code == 404)
    assert answering(live) == 1


def test_a_link_that_is_swapped_is_noticed(live, models, repository):
    """As Kubernetes renews a ConfigMap: the files are links through one link, which is replaced."""
    folder = models / "linked" / "1"
    folder.mkdir(parents=True)
    for number in (1, 2):
        shutil.copytree(repository / "shapes" / str(number), folder / f"..{number}")
    (folder / "..data").symlink_to("..1")
    for name in ("graph.json", "weights.safetensors", "model.json"):
        (folder / name).symlink_to(f"..data/{name}")
    until(lambda: live.client.get("/v1/models/linked").status_code == 200)
    until(lambda: description(live, "linked") == "shapes, take 1")
    (folder / "..new").symlink_to("..2")
    (folder / "..new").rename(folder / "..data")
    until(lambda: description(live, "linked") == "shapes, take 2")


def test_a_model_behind_a_link_is_noticed_when_the_link_is_swapped(live, models, repository):
    """As git-sync and the like publish a whole repository."""
    (models / "whole").symlink_to(repository / "meter")
    until(lambda: live.client.get("/v1/models/whole").json().get("task"))
    (models / ".new").symlink_to(repository / "shapes")
    (models / ".new").rename(models / "whole")
    until(lambda: live.client.get("/v1/models/whole").json()["task"]["kind"] == "classification")


def test_same_size_and_time_do_not_hide_a_replaced_file(live, models, repository):
    folder = models / "shapes" / "1"
    shutil.copytree(repository / "shapes" / "2", models / ".aside")
    for file in (models / ".aside").iterdir():
        old = (folder / file.name).stat()
        os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
        file.replace(folder / file.name)
    until(lambda: description(live) == "shapes, take 2")


def test_a_pin_on_disk_is_followed(live, models, repository):
    shutil.copytree(repository / "shapes" / "2", models / "shapes" / "2")
    until(lambda: answering(live) == 2)
    (models / "shapes" / "pin").write_text("1\n")
    until(lambda: answering(live) == 1)
    (models / "shapes" / "pin").unlink()
    until(lambda: answering(live) == 2)


def test_the_watch_survives_a_folder_that_is_away(live, models, repository):
    away = models.with_name("away")
    models.rename(away)
    until(lambda: live.client.get("/v1/repository").json()["problem"])
    assert answering(live) == 1
    away.rename(models)
    shutil.copytree(repository / "shapes" / "2", models / "shapes" / "2")
    until(lambda: answering(live) == 2)


def test_without_a_watch_nothing_is_noticed(start, models, repository, admin):
    settings = Settings(
        models=models, device="cpu", watch_seconds=0, warmup_rows=0, api_keys=admin.path
    )
    with start(settings, admin.key) as live:
        shutil.copytree(repository / "shapes" / "2", models / "shapes" / "2")
        time.sleep(0.5)
        assert answering(live) == 1
        assert live.client.post("/v1/repository/reload").json()["loaded"]
        assert answering(live) == 2
