import asyncio
import logging
import threading
import time

import httpx
import pytest
import torch

from service import Settings, create_app
from service.errors import StartError

BODY = {"inputs": [[1, 2, 3]]}


def test_nothing_is_built_before_the_application_starts(tmp_path):
    threads = threading.active_count()
    app = create_app(Settings(models=tmp_path / "nowhere", device="cpu"))
    assert threading.active_count() == threads

    async def main():
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(StartError, match="does not exist"):
        asyncio.run(main())


def test_the_root_leads_to_the_documentation(client):
    response = client.get("/")
    assert response.status_code == 307
    assert response.headers["location"] == "/docs"
    assert client.get("/docs").status_code == 200


@pytest.mark.parametrize(("path", "key"), [("/v1/nothing", "detail"), ("/v2/nothing", "error")])
def test_unknown_paths_and_methods(client, path, key):
    assert "there is nothing at" in client.get(path).json()[key]
    response = client.delete(path.replace("nothing", "models/meter"))
    assert response.status_code == 405
    assert "use GET" in response.json()[key]
    assert response.headers["allow"] == "GET"


def test_allow_names_every_method_of_a_path(start, repository, admin):
    settings = Settings(models=repository, device="cpu", api_keys=admin.path)
    with start(settings, admin.key) as live:
        response = live.client.put("/v1/repository/meter/pin")
    assert response.status_code == 405
    assert response.headers.get_list("allow") == ["POST, DELETE"]
    assert "use POST or DELETE" in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/meter/predict", BODY),
        (
            "/v2/models/meter/infer",
            {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
        ),
    ],
)
def test_a_full_queue_is_429_with_retry_after(start, repository, path, body):
    with start(Settings(models=repository, device="cpu", queue_size=1)) as live:
        release = threading.Event()
        occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(30))
        _until(occupied.running)
        waiting = threading.Thread(target=live.client.post, args=(path,), kwargs={"json": body})
        waiting.start()
        _until(lambda: _waiting(live))
        response = live.client.post(path, json=body)
        release.set()
        waiting.join(30)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert live.client.post(path, json=body).status_code == 200


def test_a_caller_who_hangs_up_leaves_the_queue(live):
    release = threading.Event()
    occupied = live.runtime.scheduler._workers[0].run(lambda: release.wait(30))
    _until(occupied.running)
    with pytest.raises(httpx.ReadTimeout):
        live.client.post("/v1/models/meter/predict", json=BODY, timeout=0.3)
    _until(lambda: not _waiting(live))
    release.set()
    assert live.client.post("/v1/models/meter/predict", json=BODY).status_code == 200


def test_a_caller_who_hangs_up_frees_the_device(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, memory_budget=1 << 20)
    with start(settings) as live:
        endless = BODY | {"samples": 10**8}
        with pytest.raises(httpx.ReadTimeout):
            live.client.post("/v1/models/meter/predict", json=endless, timeout=0.5)
        assert live.client.post("/v1/models/meter/predict", json=BODY).status_code == 200


def test_a_bug_says_nothing_of_the_inside(start, repository, caplog):
    with start(Settings(models=repository, device="cpu")) as live:
        loaded = live.runtime.registry.ready("meter")
        object.__setattr__(loaded, "predictors", ())
        with caplog.at_level(logging.ERROR):
            native = live.client.post("/v1/models/meter/predict", json=BODY)
        assert native.status_code == 500
        assert native.headers["content-type"] == "application/problem+json"
        assert native.json()["detail"] == "the server failed on this request; its log says more"
        _until(lambda: "IndexError" in caplog.text)
        assert live.client.get("/health/ready").status_code == 200


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_gives_the_same_answer(start, repository, client):
    with start(Settings(models=repository, device="cuda:0")) as live:
        assert live.runtime.registry.ready("meter").predictor.device == torch.device("cuda:0")
        for name, row in (("meter", [1, 2, 3]), ("shapes", [1, 2, 3, 4])):
            path, body = f"/v1/models/{name}/predict", {"inputs": [row], "samples": 50}
            on_gpu = live.client.post(path, json=body).json()["outputs"]["mean"]
            on_cpu = client.post(path, json=body).json()["outputs"]["mean"]
            torch.testing.assert_close(
                torch.tensor(on_gpu), torch.tensor(on_cpu), rtol=1e-4, atol=1e-5
            )


def test_one_bad_request_does_not_disturb_others(client, alike):
    async def main():
        async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as many:
            bodies = [
                BODY | {"seed": seed} if seed % 3 else {"inputs": [[1]]} for seed in range(24)
            ]
            return await asyncio.gather(
                *(many.post("/v1/models/meter/predict", json=body) for body in bodies)
            )

    responses = asyncio.run(main())
    for seed, response in enumerate(responses):
        assert response.status_code == (200 if seed % 3 else 422)
        if seed % 3:
            alone = client.post("/v1/models/meter/predict", json=BODY | {"seed": seed})
            alike(response.json()["outputs"], alone.json()["outputs"])


def _waiting(live):
    return [ask for lane in live.runtime.scheduler._workers[0]._active for ask in lane.waiting]


def _until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
