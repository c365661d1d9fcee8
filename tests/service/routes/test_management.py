import shutil
from datetime import datetime

import pytest

from service import Settings

BODY = {"inputs": [[0.1, -0.2, 0.3, 0.4]]}
PATH = "/v1/models/shapes/predict"


@pytest.fixture
def models(repository, tmp_path):
    for name in ("shapes", "meter"):
        shutil.copytree(repository / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def serving(start, models, admin):
    settings = Settings(
        models=models, device="cpu", watch_seconds=0, warmup_rows=0, api_keys=admin.path
    )

    def serve():
        return start(settings, admin.key)

    return serve


def answering(live):
    return live.client.post(PATH, json=BODY).json()["version"]


def test_the_repository_is_shown_with_states_reasons_and_pins(serving):
    with serving() as live:
        shown = live.client.get("/v1/repository").json()
        assert (shown["versions"], shown["watch_seconds"], shown["problem"]) == ("all", 0, None)
        assert datetime.fromisoformat(shown["looked_at"]).tzinfo
        models = {model["name"]: model for model in shown["models"]}
        assert list(models) == ["meter", "shapes"]
        assert (models["shapes"]["version"], models["shapes"]["pinned"]) == (2, None)
        three, two, _ = models["shapes"]["versions"]
        assert (three["state"], three["loaded_at"]) == ("unavailable", None)
        assert "model.json" in three["reason"]
        assert (two["state"], two["reason"]) == ("ready", None)
        assert datetime.fromisoformat(two["loaded_at"]).tzinfo


def test_a_rollback_is_instant_outlives_a_restart_and_is_undone(serving, models, repository):
    with serving() as live:
        assert answering(live) == 2
        pinned = live.client.post("/v1/repository/shapes/pin", json={"version": 1})
        assert pinned.json() == {"model": "shapes", "version": 1, "pinned": 1, "on_disk": True}
        assert answering(live) == 1
        assert live.client.get("/v1/models/shapes").json()["version"] == 1
        assert live.client.get("/v2/models/shapes/ready").status_code == 200
        # the newest can still be asked for, and newer ones do not take over
        assert live.client.post("/v1/models/shapes/versions/2/predict", json=BODY).is_success
        shutil.copytree(repository / "shapes" / "2", models / "shapes" / "4")
        assert live.client.post("/v1/repository/reload").json()["loaded"]
        assert answering(live) == 1
    with serving() as live:
        assert answering(live) == 1
        unpinned = live.client.delete("/v1/repository/shapes/pin").json()
        assert unpinned == {"model": "shapes", "version": 4, "pinned": None, "on_disk": True}
        assert answering(live) == 4
        assert not (models / "shapes" / "pin").exists()


def test_where_nothing_can_be_written_a_pin_is_in_memory(serving, models):
    (models / "shapes" / "pin").mkdir()  # root writes into read-only folders, too
    with serving() as live:
        pinned = live.client.post("/v1/repository/shapes/pin", json={"version": 1}).json()
        assert (pinned["version"], pinned["on_disk"]) == (1, False)
        live.client.post("/v1/repository/reload")
        assert answering(live) == 1
        unpinned = live.client.delete("/v1/repository/shapes/pin").json()
        assert (unpinned["version"], unpinned["on_disk"]) == (2, False)


def test_a_pin_is_obeyed_also_where_its_version_cannot_answer(serving, models):
    (models / "shapes" / "pin").write_text("1")
    with serving() as live:
        assert answering(live) == 1
        shutil.rmtree(models / "shapes" / "1")
        live.client.post("/v1/repository/reload")
        response = live.client.post(PATH, json=BODY)
        assert response.status_code == 503
        assert "pinned to it, but there is no such version" in response.json()["detail"]
        assert live.client.get("/v1/models/shapes").json()["state"] == "unavailable"
        assert live.client.get("/v2/models/shapes/ready").status_code == 503
        live.client.delete("/v1/repository/shapes/pin")
        assert answering(live) == 2


def test_pins_to_what_cannot_answer_are_refused(serving):
    with serving() as live:
        path = "/v1/repository/shapes/pin"
        broken = live.client.post(path, json={"version": 3})
        assert broken.status_code == 409
        assert "not pinned to version 3, which is unavailable" in broken.json()["detail"]
        assert live.client.post(path, json={"version": 9}).status_code == 404
        assert live.client.post("/v1/repository/nope/pin", json={"version": 1}).status_code == 404
        assert live.client.delete("/v1/repository/nope/pin").status_code == 404
        for body in ({}, {"version": 0}, {"version": "1"}, {"version": 1, "also": 2}):
            assert live.client.post(path, json=body).status_code == 422
        assert answering(live) == 2
        assert live.client.get("/v1/repository").json()["models"][1]["pinned"] is None


def test_a_model_that_comes_back_follows_the_pin_that_comes_with_it(serving, models, repository):
    with serving() as live:
        live.client.post("/v1/repository/shapes/pin", json={"version": 1})
        kept = models.with_name("kept")
        shutil.move(models / "shapes", kept)
        live.client.post("/v1/repository/reload")
        shutil.copytree(repository / "shapes", models / "shapes")  # without a pin
        live.client.post("/v1/repository/reload")
        assert answering(live) == 2
        shutil.rmtree(models / "shapes")
        live.client.post("/v1/repository/reload")
        shutil.move(kept, models / "shapes")
        live.client.post("/v1/repository/reload")
        assert answering(live) == 1
