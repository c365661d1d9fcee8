"""What is written about each request, and what is left out."""

import asyncio
import logging
import re
import socket
import time

import httpx
import pytest

from service import Settings, create_app
from service.access.keys import KeyScope, key_entry, new_key


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def written(caplog):
    caplog.set_level(logging.INFO, logger="service.telemetry.access_log")

    def fields(path):
        return [
            record.fields
            for record in caplog.records
            if record.name == "service.telemetry.access_log" and record.fields["path"] == path
        ]

    return fields


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"]
)
def test_probes_and_scrapes_are_left_out_while_they_succeed(client, written, path):
    assert client.get(path).status_code == 200
    assert client.get("/v1/models").status_code == 200
    until(lambda: written("/v1/models"))
    assert not written(path)


def test_a_probe_that_fails_is_written(repository, written):
    app = create_app(Settings(models=repository, device="cpu"))

    async def main():
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            app.router.lifespan_context(app),
        ):
            assert (await client.get("/health/ready")).status_code == 503

    asyncio.run(main())
    assert [fields["status"] for fields in written("/health/ready")] == [503]


def test_a_record_says_what_was_asked_and_answered(client, written):
    answer = client.get("/v1/models/meter")
    until(lambda: written("/v1/models/meter"))
    fields = written("/v1/models/meter")[-1]
    assert fields["method"] == "GET"
    assert fields["status"] == 200
    assert fields["bytes"] == int(answer.headers["content-length"])  # as sent, compressed
    assert fields["duration_ms"] > 0
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields["client"])
    assert fields["key"] == "anyone"  # on a server without keys


def test_neither_query_nor_headers_nor_body_are_written(client, caplog, written):
    secret = "s3cr3t"
    client.post(
        f"/v1/models/meter/predict?api_key={secret}",
        json={"inputs": [[1, 2, 3]], "outputs": [secret]},
        headers={"authorization": f"Bearer {secret}"},
    )
    until(lambda: written("/v1/models/meter/predict"))
    assert secret not in caplog.text


def test_a_path_with_a_line_break_stays_on_its_line(live, caplog):
    caplog.set_level(logging.INFO, logger="service.telemetry.access_log")
    forged = "/v1/x%0a2026-01-01%20INFO%20forged%0d%e2%80%a8"
    live.client.get(forged)
    until(lambda: "forged" in caplog.text)
    (message,) = [m for m in caplog.messages if "forged" in m]
    assert len(message.splitlines()) == 1


def test_a_long_path_is_cut(live, written):
    live.client.get("/" + "x" * 5000)
    until(lambda: written("/" + "x" * 1023))


def test_a_caller_who_hangs_up_is_499(start, repository, written):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, memory_budget=1 << 20)
    with start(settings) as live:
        body = b'{"inputs": [[1, 2, 3]], "samples": 100000000}'
        head = b"POST /v1/models/meter/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
            connection.sendall(head % len(body) + body)
            time.sleep(0.3)
        until(lambda: written("/v1/models/meter/predict"))
    assert written("/v1/models/meter/predict")[0]["status"] == 499


def test_a_bug_is_500_and_too_large_a_body_413(start, repository, written):
    settings = Settings(models=repository, device="cpu", max_body_bytes=100)
    with start(settings) as live:
        live.client.post("/v1/models/shapes/predict", content=b" " * 101)
        object.__setattr__(live.runtime.registry.ready("meter"), "predictors", ())
        live.client.post("/v1/models/meter/predict", json={"inputs": [[1, 2, 3]]})
        until(lambda: written("/v1/models/meter/predict"))
    assert written("/v1/models/meter/predict")[0]["status"] == 500
    assert written("/v1/models/shapes/predict")[0]["status"] == 413


def test_the_key_is_written_by_its_name(start, repository, tmp_path, caplog, written):
    key, keys = new_key(), tmp_path / "keys.toml"
    keys.write_text(key_entry("alice", key, KeyScope.READ, None, None))
    keys.chmod(0o600)
    with start(Settings(models=repository, device="cpu", api_keys=keys)) as live:
        live.client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        live.client.get("/v1/models", headers={"authorization": "Bearer wrong"})
        until(lambda: len(written("/v1/models")) == 2)
    taken, refused = written("/v1/models")
    assert (taken["status"], taken["key"]) == (200, "alice")
    assert refused["status"] == 401
    assert "key" not in refused
    assert key not in caplog.text
    assert "wrong" not in caplog.text
