import asyncio
import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from service import Settings
from service.errors import NotFoundError, NotReadyError, StartError
from service.registry import Registry
from service.repository.folders import scan, take_inventory
from service.repository.repository import Repository
from service.repository.watch import watch
from service.scheduler import Scheduler


def load_all(models):
    """What a server does at its start, without one."""

    async def load():
        settings = Settings(models=models, warmup_rows=0)
        registry = Registry(scan(models))
        assert registry.state() == "loading"
        scheduler = Scheduler([torch.device("cpu")], capacity=1)
        await watch(Repository(registry, scheduler, settings), 0)
        await scheduler.close()
        return registry

    return asyncio.run(load())


@pytest.fixture(scope="module")
def registry(repository):
    return load_all(repository)


def test_the_newest_sound_version_answers_and_all_can_be_addressed(registry):
    assert registry.state() == "ready"
    assert registry.ready("shapes").version == 2
    assert registry.ready("shapes", 1).manifest.description == "shapes, take 1"
    assert [version.number for version in registry.versions("shapes")] == [3, 2, 1]


def test_a_broken_artifact_is_listed_with_its_reason_and_stops_no_other(registry, repository):
    for name, number in (("shapes", 3), ("broken", 1)):
        version = registry.find(name, number)
        assert version.state == "unavailable"
        assert version.reason
        assert str(repository) not in version.reason
        with pytest.raises(NotReadyError, match="unavailable"):
            registry.ready(name, number)
    with pytest.raises(NotReadyError):
        registry.ready("broken")


def test_what_is_not_there_is_said_with_what_is(registry):
    with pytest.raises(NotFoundError, match="brain, broken, meter, pair, shapes, tags"):
        registry.ready("shape")
    with pytest.raises(NotFoundError, match="it has: 3, 2, 1"):
        registry.ready("shapes", 4)


def test_nothing_is_ready_before_it_is_loaded(repository):
    fresh = Registry(scan(repository))
    with pytest.raises(NotReadyError, match="loading"):
        fresh.ready("shapes")


def test_what_is_no_model_is_passed_over(tmp_path):
    for folder in ("good/1", "good/10", "good/2", "good/latest", "good/.aside", "good/01",
                   "no_versions", "bad name/1", ".hidden/1"):  # fmt: skip
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "README").write_text("a file")
    found = take_inventory(tmp_path)
    assert [(folder.name, folder.number) for folder in found.folders] == [
        ("good", 10), ("good", 2), ("good", 1),
    ]  # fmt: skip
    assert scan(tmp_path) == found.folders
    said = "; ".join(found.passed_over)
    assert "no_versions is passed over" in said
    assert "bad name is passed over" in said
    assert len(found.passed_over) == 2


def test_a_missing_or_empty_folder_is_an_error_of_one_line(tmp_path):
    with pytest.raises(StartError, match=r"does not exist.*MCDROP_MODELS"):
        scan(tmp_path / "nowhere")
    with pytest.raises(StartError, match=r"holds no <name>/<version>/ folder.*mcdrop demo"):
        scan(tmp_path)


def test_a_model_one_level_too_high_is_recognised(repository):
    with pytest.raises(StartError, match="too high up"):
        scan(repository / "meter" / "1")
    with pytest.raises(StartError, match="too high up"):
        scan(repository / "meter")


def test_the_folder_names_the_model(repository, tmp_path, caplog):
    shutil.copytree(repository / "meter" / "1", tmp_path / "gauge" / "5")
    with caplog.at_level(logging.WARNING):
        found = load_all(tmp_path)
    assert "gauge/5 was saved as meter/1" in caplog.text
    assert found.ready("gauge").version == 5


def test_a_repository_of_broken_models_stays_unavailable(repository, tmp_path):
    shutil.copytree(repository / "broken", tmp_path / "broken")
    assert load_all(tmp_path).state() == "unavailable"


def test_reasons_do_not_tell_where_the_repository_lies(repository, tmp_path, monkeypatch):
    kept = tmp_path / "kept" / "elsewhere"
    shutil.copytree(repository / "broken" / "1", kept)
    weights = (kept / "weights.safetensors").read_bytes()
    manifest = json.loads((kept / "model.json").read_text())
    # as declared, so that it is the file's reader who complains, of the path that it followed
    manifest["files"]["weights"] = hashlib.sha256(weights).hexdigest()
    (kept / "model.json").write_text(json.dumps(manifest))
    shutil.copytree(kept, tmp_path / "models" / "plain" / "1")
    (tmp_path / "models" / "linked").mkdir()
    (tmp_path / "models" / "linked" / "1").symlink_to(kept)
    monkeypatch.chdir(tmp_path)
    for root in (Path("models"), tmp_path / "models"):
        found = load_all(root)
        for name in ("plain", "linked"):
            reason = found.find(name, 1).reason
            assert f"{name}/1/weights.safetensors is not a sound safetensors file" in reason
            for part in (str(tmp_path), "models", "elsewhere"):
                assert part not in reason


def test_what_leaves_nothing_is_logged_at_the_start_and_the_rest_later(tmp_path, caplog):
    (tmp_path / "no_versions").mkdir()
    with caplog.at_level(logging.WARNING), pytest.raises(StartError):
        scan(tmp_path)
    assert "no_versions is passed over" in caplog.text
    caplog.clear()
    (tmp_path / "good" / "1").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        scan(tmp_path)
    assert not caplog.text
