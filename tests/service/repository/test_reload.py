"""Versions come, change, break and go while callers ask; real artifacts, a real server."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import weakref

import httpx
import pytest
import torch

import mcdrop
from service import Settings

METER_ROWS = [[1.0, 2.0, 3.0]]
ROWS = [[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]
BODY = {"inputs": ROWS, "samples": 24, "seed": 3, "outputs": ["mean"]}
PATH = "/v1/models/shapes/predict"


def publish(source, target):
    """As a careful deployment does: written aside, then renamed."""
    aside = target.parent / f".{target.name}.aside"
    shutil.copytree(source, aside)
    if target.exists():
        target.rename(target.parent / ".old")
    aside.rename(target)
    shutil.rmtree(target.parent / ".old", ignore_errors=True)


def expected(folder, rows=ROWS):
    return mcdrop.load(folder).predict(torch.tensor(rows), samples=24, seed=3).mean


def close(found, wanted):
    return torch.allclose(torch.as_tensor(found), wanted, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def answers(repository):
    """The library's answers of shapes/1 and shapes/2, which differ."""
    found = {number: expected(repository / "shapes" / str(number)) for number in (1, 2)}
    assert not close(found[1], found[2])
    return found


@pytest.fixture
def models(repository, tmp_path):
    """A repository with shapes/1 and meter/1."""
    shutil.copytree(repository / "shapes" / "1", tmp_path / "shapes" / "1")
    shutil.copytree(repository / "meter", tmp_path / "meter")
    return tmp_path


@pytest.fixture
def serving(start, admin):
    """Start a server whose folder is looked at only when told."""

    @contextlib.contextmanager
    def serve(models, **settings):
        changed = {"watch_seconds": 0, "warmup_rows": 2, "device": "cpu"} | settings
        with start(Settings(models=models, api_keys=admin.path, **changed), admin.key) as live:
            yield live

    return serve


class Seen(list):
    """When each request was asked, and the version that answered it or the status that it got."""

    def said(self, since=0.0):
        """What came of the requests that were asked from a moment on."""
        return [said for asked, said in self.copy() if asked >= since]


@contextlib.contextmanager
def hammering(live, possible, *, model="shapes", rows=ROWS, allowed=(200,)):
    """Callers who ask on and on; each answer is held against those its version may give.

    Yields what they saw, in the order in which it came.
    """
    stop = threading.Event()
    seen, wrong = Seen(), []
    path, body = f"/v1/models/{model}/predict", BODY | {"inputs": rows}

    def ask():
        known = {"base_url": live.client.base_url, "headers": live.client.headers}
        with httpx.Client(**known, timeout=30) as client:
            while not stop.is_set():
                asked = time.monotonic()
                response = client.post(path, json=body)
                if response.status_code not in allowed:
                    wrong.append(response.text)
                if response.status_code != 200:
                    seen.append((asked, response.status_code))
                    continue
                answer = response.json()
                mean = answer["outputs"]["mean"]
                if not any(close(mean, wanted) for wanted in possible.get(answer["version"], ())):
                    wrong.append(answer)
                seen.append((asked, answer["version"]))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(seen) > 3)
    try:
        yield seen
        here = len(seen)
        until(lambda: len(seen) > here + 6)  # those that had begun, and some after
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not wrong, wrong[:3]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reload(live):
    response = live.client.post("/v1/repository/reload")
    assert response.status_code == 200, response.text
    return response.json()


def states(live, model="shapes"):
    versions = live.client.get(f"/v1/models/{model}").json()["versions"]
    return {version["version"]: version["state"] for version in versions}


def test_a_new_version_takes_over_between_two_requests(serving, models, repository, answers):
    possible = {number: [mean] for number, mean in answers.items()}
    with serving(models) as live, hammering(live, possible) as seen:
        publish(repository / "shapes" / "2", models / "shapes" / "2")
        assert set(seen.said()) == {1}
        assert reload(live)["loaded"] == [{"model": "shapes", "version": 2}]
        loaded = time.monotonic()
        until(lambda: len(seen.said(loaded)) > 12)
        assert set(seen.said(loaded)) == {2}
        assert live.client.post("/v1/models/shapes/versions/1/predict", json=BODY).is_success


def test_a_broken_new_version_takes_nothing_away(serving, models, repository, answers):
    with serving(models) as live, hammering(live, {1: [answers[1]], 4: [answers[1]]}) as seen:
        publish(repository / "shapes" / "3", models / "shapes" / "3")  # an empty folder
        publish(repository / "broken" / "1", models / "shapes" / "4")
        failed = reload(live)["failed"]
        assert [item["version"] for item in failed] == [4, 3]
        assert all(str(models) not in item["reason"] for item in failed)
        assert states(live) == {4: "unavailable", 3: "unavailable", 1: "ready"}
        assert live.client.get("/health/ready").status_code == 200
        assert set(seen.said()) == {1}
        assert len(reload(live)["failed"]) == 2  # an operator's word is to try again
        publish(repository / "shapes" / "1", models / "shapes" / "4")
        assert reload(live)["loaded"] == [{"model": "shapes", "version": 4}]
        shutil.rmtree(models / "shapes" / "4")
        assert reload(live)["unloaded"] == [{"model": "shapes", "version": 4}]


def test_changed_files_are_loaded_anew_again_and_again(serving, models, repository, answers):
    either = {1: [answers[1], answers[2]]}
    with serving(models) as live, hammering(live, either):
        for turn in range(6):
            number = 2 - turn % 2
            publish(repository / "shapes" / str(number), models / "shapes" / "1")
            assert reload(live)["reloaded"] == [{"model": "shapes", "version": 1}]
            answer = live.client.post(PATH, json=BODY).json()
            assert close(answer["outputs"]["mean"], answers[number])
        (models / "shapes" / "1" / "model.json").touch()
        nothing = {"loaded": [], "reloaded": [], "unloaded": [], "failed": []}
        assert reload(live) == nothing


def test_files_broken_in_place_are_not_served(serving, models, repository, answers):
    folder = models / "shapes" / "1"
    with serving(models) as live, hammering(live, {1: [answers[1]]}):
        (folder / "weights.safetensors").write_bytes(b"")  # a mapped file would be gone now
        shutil.copy(repository / "shapes" / "2" / "model.json", folder)
        assert reload(live)["failed"][0]["version"] == 1
        version = live.client.get("/v1/repository").json()["models"][1]["versions"][0]
        assert version["state"] == "ready"
        assert "its files changed, and are not served" in version["reason"]
        for name in ("weights.safetensors", "model.json"):
            shutil.copy(repository / "shapes" / "1" / name, folder)
        reload(live)
        assert (
            live.client.get("/v1/repository").json()["models"][1]["versions"][0]["reason"] is None
        )


def test_models_come_and_go_and_an_empty_repository_is_no_end(serving, models, repository, answers):
    possible = {1: [answers[1]]}
    with serving(models) as live:
        with hammering(live, possible):
            shutil.copytree(repository / "pair", models / "pair")
            shutil.rmtree(models / "meter")
            assert reload(live)["unloaded"] == [{"model": "meter", "version": 1}]
            names = [model["name"] for model in live.client.get("/v1/models").json()["models"]]
            assert names == ["pair", "shapes"]
            gone = live.client.post("/v1/models/meter/predict", json={"inputs": [[1, 2, 3]]})
            assert gone.status_code == 404
        for name in ("pair", "shapes"):
            shutil.rmtree(models / name)
        reload(live)
        assert live.client.get("/v1/models").json() == {"models": []}
        assert live.client.get("/health/ready").json() == {"status": "unavailable"}
        assert "the repository is empty" in live.client.post(PATH, json=BODY).json()["detail"]
        (models / "shapes").mkdir()
        publish(repository / "shapes" / "2", models / "shapes" / "2")
        reload(live)
        assert live.client.get("/health/ready").status_code == 200
        assert live.client.post(PATH, json=BODY).json()["version"] == 2


def test_a_folder_that_cannot_be_read_unloads_nothing(serving, models, answers):
    with serving(models) as live, hammering(live, {1: [answers[1]]}):
        away = models.with_name("away")
        models.rename(away)
        response = live.client.post("/v1/repository/reload")
        assert response.status_code == 503
        assert "what is loaded is served" in response.json()["detail"]
        assert str(models) not in response.text
        assert "cannot be read" in live.client.get("/v1/repository").json()["problem"]
        away.rename(models)
        assert reload(live)["unloaded"] == []
        assert live.client.get("/v1/repository").json()["problem"] is None


def test_the_old_version_s_memory_goes_with_its_last_request(serving, models, repository, answers):
    with serving(models) as live:
        for leave in ("reload", "unload"):
            loaded = weakref.ref(live.runtime.registry.ready("shapes"))
            weights = weakref.ref(next(iter(loaded().predictor.program.weights.values())))
            with waiting_request(live) as answered:
                if leave == "unload":
                    live.client.post("/v2/repository/models/shapes/unload")
                    assert live.client.post(PATH, json=BODY).status_code == 503
                    assert loaded() is not None
                    assert not answered
                else:
                    publish(repository / "shapes" / "2", models / "shapes" / "1")
            assert answered[0].status_code == 200
            if leave == "reload":
                assert reload(live)["reloaded"]
                assert close(answered[0].json()["outputs"]["mean"], answers[1])
            until(lambda: loaded() is None and weights() is None)  # noqa: B023 - now, not later


@contextlib.contextmanager
def waiting_request(live):
    """A request that waits for the device while the block runs, and is answered at its end."""
    release = threading.Event()
    answered = []
    occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(60))
    until(occupied.running)
    asking = threading.Thread(target=lambda: answered.append(live.client.post(PATH, json=BODY)))
    asking.start()
    until(lambda: live.runtime.scheduler._workers[0].load() > 0)
    try:
        yield answered
    finally:
        release.set()
        asking.join(60)


def test_an_unload_lets_requests_finish_and_is_not_undone(serving, models, repository, answers):
    possible = {1: [answers[1]], 2: [answers[2]]}
    with serving(models) as live, hammering(live, possible, allowed=(200, 503)) as seen:
        assert set(seen.said()) == {1}
        assert live.client.post("/v2/repository/models/shapes/unload").status_code == 200
        unloaded = time.monotonic()
        until(lambda: len(seen.said(unloaded)) > 6)
        assert set(seen.said(unloaded)) == {503}
        assert states(live) == {1: "unloaded"}
        assert live.client.get("/health/ready").status_code == 200  # there is meter
        reload(live)
        assert states(live) == {1: "unloaded"}
        publish(repository / "shapes" / "2", models / "shapes" / "2")  # files change
        reload(live)
        assert states(live) == {2: "ready", 1: "unloaded"}
        until(lambda: seen.said()[-1] == 2)
        live.client.post("/v2/repository/models/shapes/load")
        assert states(live) == {2: "ready", 1: "ready"}


def test_an_unload_during_a_load_stays(serving, models, repository):
    with serving(models) as live:
        release = threading.Event()
        occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(60))
        until(occupied.running)
        publish(repository / "shapes" / "2", models / "shapes" / "2")
        publish(repository / "shapes" / "2", models / "shapes" / "1")
        changes = []
        loading = threading.Thread(target=lambda: changes.append(reload(live)))
        loading.start()
        until(lambda: states(live).get(2) == "loading")  # and waits for the device
        assert live.client.post("/v2/repository/models/shapes/unload").status_code == 200
        release.set()
        loading.join(60)
        assert states(live)[2] == "unloaded"
        assert {"model": "shapes", "version": 2} not in changes[0]["loaded"]


def test_only_so_many_versions_are_loaded_and_a_broken_one_does_not_count(
    serving, models, repository, answers
):
    possible = {number: [mean] for number, mean in answers.items()}
    with serving(models, versions="latest:1") as live, hammering(live, possible):
        publish(repository / "broken" / "1", models / "shapes" / "3")
        reload(live)
        assert states(live) == {3: "unavailable", 1: "ready"}
        publish(repository / "shapes" / "2", models / "shapes" / "2")
        assert reload(live)["unloaded"] == [{"model": "shapes", "version": 1}]
        assert states(live) == {3: "unavailable", 2: "ready", 1: "unloaded"}
        # rolling back loads it first, and it stays for as long as it is pinned
        response = live.client.post("/v1/repository/shapes/pin", json={"version": 1})
        assert response.json()["version"] == 1
        reload(live)
        assert states(live) == {3: "unavailable", 2: "ready", 1: "ready"}
        live.client.delete("/v1/repository/shapes/pin")
        reload(live)
        assert states(live) == {3: "unavailable", 2: "ready", 1: "unloaded"}


def test_an_older_version_steps_in_also_after_an_unload_and_a_load(serving, models, repository):
    shutil.copytree(repository / "shapes" / "2", models / "shapes" / "2")
    with serving(models, versions="latest:1") as live:
        assert states(live) == {2: "ready", 1: "unloaded"}
        for verb in ("unload", "load"):
            assert live.client.post(f"/v2/repository/models/shapes/{verb}").status_code == 200
        assert states(live) == {2: "ready", 1: "unloaded"}
        shutil.rmtree(models / "shapes" / "2")
        reload(live)
        assert states(live) == {1: "ready"}


def test_reading_beside_predictions_disturbs_neither(serving, models, repository, answers):
    meter = {1: [expected(repository / "meter" / "1", METER_ROWS)]}
    others = ("pair", "tags", "brain")
    with (
        serving(models) as live,
        hammering(live, {1: [answers[1], answers[2]]}),
        hammering(live, meter, model="meter", rows=METER_ROWS),
    ):
        for turn in range(5):
            publish(repository / "shapes" / str(2 - turn % 2), models / "shapes" / "1")
            for name in others:
                if turn % 2:
                    shutil.rmtree(models / name)
                else:
                    (models / name).mkdir()
                    publish(repository / name / "1", models / name / "1")
            changes = reload(live)
            assert changes["failed"] == []
            key = "unloaded" if turn % 2 else "loaded"
            assert [item["model"] for item in changes[key]] == sorted(others)
