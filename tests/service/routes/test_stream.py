"""Server-sent events, over a real socket."""

import asyncio
import itertools
import json
import shutil
import subprocess
import time

import httpx
import pytest
import torch

import mcdrop
from service import Settings

ROWS = [[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]]
PATH = "/v1/models/shapes/predict/stream"


def events(response):
    """Of a body, (name, data) each."""
    found, name = [], None
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
        else:
            assert line == ""
    return found


def stream(client, body, path=PATH):
    with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        return events(response)


def test_standard_errors_shrink_and_the_last_one_is_the_answer(client, alike):
    body = {"inputs": ROWS, "samples": 480, "seed": 3}
    found = stream(client, body)
    assert [name for name, _ in found[:-1]] == ["partial"] * (len(found) - 1)
    assert found[-1][0] == "final"
    assert len(found) > 2
    assert len({answer["id"] for _, answer in found}) == 1
    samples = [answer["samples"][0] for _, answer in found]
    assert samples == sorted(set(samples))
    assert samples[-1] == 480
    assert {number % 16 for number in samples} == {0}
    errors = [max(answer["outputs"]["standard_error"][0]) for _, answer in found]
    assert errors[-1] < 0.6 * errors[0]
    whole = client.post(PATH.removesuffix("/stream"), json=body).json()
    alike(found[-1][1]["outputs"], whole["outputs"])


def test_every_partial_answer_is_the_library_s(client, repository):
    expected = mcdrop.load(repository / "shapes" / "2")
    for _, answer in stream(client, {"inputs": ROWS, "samples": 100, "outputs": ["mean", "label"]}):
        assert list(answer["outputs"]) == ["mean", "label"]
        wanted = expected.predict(torch.tensor(ROWS), samples=answer["samples"][0])
        torch.testing.assert_close(torch.tensor(answer["outputs"]["mean"]), wanted.mean)


def test_a_tolerance_and_a_version(client):
    path = "/v1/models/shapes/versions/1/predict/stream"
    found = stream(client, {"inputs": ROWS, "tolerance": 10.0}, path)
    assert found[-1][1]["samples"] == [64, 64]
    assert found[-1][1]["version"] == 1


def test_a_deadline_ends_it(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, warmup_rows=1)
    with start(settings) as live:
        body = {"inputs": ROWS, "samples": 10**8, "deadline_ms": 400, "outputs": ["mean"]}
        found = stream(live.client, body)
        assert found[-1][0] == "final"
        assert 0 < found[-1][1]["samples"][0] < 10**8
        whole = live.client.post(PATH.removesuffix("/stream"), json=body)
        assert whole.status_code == 200
        assert 0 < whole.json()["samples"][0] < 10**8


@pytest.mark.parametrize(
    ("body", "status"),
    [({"inputs": [[1]]}, 422), ({"inputs": ROWS, "samples": 0}, 422), ({"rows": ROWS}, 422)],
)
def test_what_is_wrong_from_the_start_has_a_status(client, body, status):
    response = client.post(PATH, json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert client.post(PATH.replace("shapes", "nope"), json=body).status_code == 404


def test_who_hangs_up_frees_the_rows(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, warmup_rows=1)
    with start(settings) as live:
        (worker,) = live.runtime.scheduler._workers
        with live.client.stream("POST", PATH, json={"inputs": ROWS, "samples": 10**8}) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: partial"
            assert worker.load() > 0
        until(lambda: worker.load() == 0)


def test_a_slow_reader_gets_the_latest_and_no_backlog(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, warmup_rows=1)

    async def main(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 12)
        body = json.dumps({"inputs": ROWS * 4, "samples": 10**8, "deadline_ms": 3000}).encode()
        writer.write(
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (PATH.encode(), len(body), body)
        )
        await asyncio.sleep(2.5)  # nothing is read meanwhile
        data = b""
        while part := await reader.read(1 << 16):
            data += part
        writer.close()
        return data

    with start(settings) as live:
        data = asyncio.run(main(live.port))
    lines = [line for line in data.split(b"\n") if line.startswith(b"data: ")]
    numbers = [json.loads(line.removeprefix(b"data: "))["samples"][0] for line in lines]
    assert numbers == sorted(numbers)
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    assert max(steps) > 16  # some were left out


def test_a_failure_in_between_is_an_event(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, warmup_rows=1)
    with start(settings) as live, httpx.Client(base_url=live.client.base_url) as client:
        with client.stream("POST", PATH, json={"inputs": ROWS, "samples": 10**8}) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: partial"
            object.__setattr__(live.runtime.registry.ready("shapes"), "predictors", ())
            rest = [line for line in lines if line.startswith(("event", "data"))]
        assert rest[-2] == "event: error"
        assert json.loads(rest[-1].removeprefix("data: "))["status"] == 500
        assert "IndexError" not in rest[-1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(served):
    url = f"http://127.0.0.1:{served.port}{PATH}"
    body = json.dumps({"inputs": ROWS, "samples": 64})
    done = subprocess.run(
        ["curl", "-sSN", url, "-d", body], capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().rpartition("\n\n")[2].startswith("event: final\ndata: {")


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
