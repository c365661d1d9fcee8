"""Keys and rates over real sockets."""

import asyncio
import shutil
import socket
import time

import httpx
import pytest

from service import Settings, create_app
from service.access.gate import scope_of
from service.access.keys import KeyScope, key_entry, new_key

BODY = {"inputs": [[1, 2, 3]]}
OIP_BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
LABELLED = {"inputs": [[1, 2, 3]] * 3, "targets": [0, 1, 2]}
READ, ADMIN, SLOW = new_key(), new_key(), new_key()

PREDICTIONS = (
    ("/v1/models/meter/predict", BODY),
    ("/v1/models/meter/versions/1/predict", BODY),
    ("/v1/models/meter/evaluate", LABELLED),
    ("/v2/models/meter/infer", OIP_BODY),
    ("/v2/models/meter/versions/1/infer", OIP_BODY),
)
METADATA = (
    "/v1/models", "/v1/models/meter", "/v1/models/meter/calibration", "/v2", "/v2/",
    "/v2/models/meter", "/v2/models/meter/ready",
)  # fmt: skip
OPEN = (
    "/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/v2/health/live",
    "/v2/health/ready", "/metrics",
)  # fmt: skip
MANAGEMENT = (
    "/v2/repository/index", "/v2/repository/models/meter/load", "/v1/repository/models/meter/unload"
)  # fmt: skip


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def said(response):
    body = response.json()
    return body.get("error") or body["detail"]


@pytest.fixture(scope="module")
def models(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(repository / "meter", folder / "meter")
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(
        key_entry("reader", READ, KeyScope.READ, None, None)
        + key_entry("boss", ADMIN, KeyScope.ADMIN, None, None)
        + key_entry("slow", SLOW, KeyScope.READ, 0.01, 2)
    )
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def locked(start, models, keys):
    with start(Settings(models=models, device="cpu", api_keys=keys)) as live:
        yield live.client


@pytest.fixture(scope="module")
def unlocked(start, models):
    with start(Settings(models=models, device="cpu")) as live:
        yield live.client


@pytest.mark.parametrize("key", [READ, ADMIN], ids=["read", "admin"])  # keys differ in each process
@pytest.mark.parametrize("how", ["Bearer", "bearer", "BEARER", "X-API-Key"])
def test_a_key_lets_in_however_it_is_sent(locked, key, how):
    headers = {how: key} if how == "X-API-Key" else {"Authorization": f"{how}  {key}"}
    for path, body in PREDICTIONS:
        assert locked.post(path, json=body, headers=headers).status_code == 200, path
    for path in METADATA:
        assert locked.get(path, headers=headers).status_code == 200, path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("nonsense"),
        bearer(READ[:-1]),
        bearer(READ + "x"),
        {"authorization": READ},
        {"authorization": f"Basic {READ}"},
        {"authorization": "Bearer"},
        {"x-api-key": "nonsense"},
        {"x-api-key": ""},
        {"authorization": "Bearer nonsense", "x-api-key": READ},
        {"cookie": f"key={READ}"},
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"x-api-key", b"\xe9" * 5000)],
    ],
)
def test_without_a_known_key_nothing_is_said_but_that(locked, headers):
    for path in (*METADATA, *MANAGEMENT, "/v1/nothing", "/v2/nothing", "/nothing"):
        response = locked.get(path, headers=headers)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert "API key" in said(response)
    for path, body in PREDICTIONS:
        assert locked.post(path, json=body, headers=headers).status_code == 401, path


def test_a_key_in_the_query_is_none(locked):
    for name in ("key", "api_key", "access_token", "X-API-Key"):
        assert locked.get("/v1/models", params={name: READ}).status_code == 401


def test_a_refusal_is_said_in_the_words_of_the_protocol(locked):
    native, oip = locked.get("/v1/models"), locked.get("/v2/models/meter")
    assert native.headers["content-type"] == "application/problem+json"
    assert native.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": native.json()["detail"],
    }
    assert "Authorization: Bearer KEY" in native.json()["detail"]
    assert list(oip.json()) == ["error"]
    forbidden = [locked.get(path, headers=bearer(READ)) for path in MANAGEMENT]
    assert [response.status_code for response in forbidden] == [403] * 3
    assert list(forbidden[0].json()) == ["error"]
    assert forbidden[2].headers["content-type"] == "application/problem+json"


def test_what_is_open_is_open(locked, unlocked):
    for path in OPEN:
        for headers in ({}, bearer("nonsense")):
            found, expected = locked.get(path, headers=headers), unlocked.get(path)
            assert found.status_code == expected.status_code, path
            assert found.status_code not in {401, 403}


def test_metrics_ask_for_a_key_where_that_is_wanted(start, models, keys):
    settings = Settings(models=models, device="cpu", api_keys=keys, metrics_key_required=True)
    with start(settings) as live:
        assert live.client.get("/metrics").status_code == 401
        assert live.client.get("/metrics", headers=bearer(READ)).status_code not in {401, 403}
        assert live.client.get("/health/live").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_management_is_for_admin_keys_only_by_any_method(locked, unlocked, method):
    for path in MANAGEMENT:
        assert locked.request(method, path).status_code == 401
        assert locked.request(method, path, headers=bearer(READ)).status_code == 403
        assert locked.request(method, path, headers=bearer(ADMIN)).status_code not in {401, 403}
        off = unlocked.request(method, path, headers=bearer(ADMIN))
        assert off.status_code == 403
        assert method == "HEAD" or "management is off" in said(off)


@pytest.mark.parametrize("way", ["%2Findex", "/%69ndex", "/../repository/index", "//index"])
def test_a_path_written_otherwise_is_no_way_round(locked, way):
    """Over the socket as it is written: clients would tidy the path up."""
    port = locked.base_url.port
    for start in ("/v2/repository", "/v2/./repository", "//v2/repository", "/v2%2Frepository"):
        request = f"POST {start}{way} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        for key, statuses in ((None, (401,)), (READ, (403, 404))):
            sent = f"X-API-Key: {key}\r\n" if key else ""
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(f"{request}{sent}\r\n".encode())
                answer = connection.recv(4096).decode()
            assert int(answer.split()[1]) in statuses, (start, way)


def test_management_stays_locked_under_a_prefix(models, keys):
    """As behind `root_path`, which Ray Serve sets to its `route_prefix`."""

    async def statuses(prefix):
        app = create_app(Settings(models=models, device="cpu", api_keys=keys))
        transport = httpx.ASGITransport(app, root_path=prefix)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            found = []
            for path in ("/v2/repository/index", "/v1/models", "/health/live"):
                for headers in ({}, bearer(READ)):
                    response = await client.get(prefix + path, headers=headers)
                    found.append(response.status_code)
            return found

    assert asyncio.run(statuses("")) == asyncio.run(statuses("/api"))
    assert asyncio.run(statuses("/api"))[:5] == [401, 403, 401, 200, 200]


def test_a_large_body_without_a_key_is_refused_and_the_next_request_is_answered(locked):
    for _ in range(3):
        response = locked.post(PREDICTIONS[0][0], content=b" " * (16 << 20))
        assert response.status_code == 401
    assert locked.post(PREDICTIONS[0][0], json=BODY, headers=bearer(READ)).status_code == 200


def test_a_key_with_a_rate_of_its_own(locked):
    path, body = PREDICTIONS[0]
    statuses = [locked.post(path, json=body, headers=bearer(SLOW)).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    for path, body in PREDICTIONS:
        response = locked.post(path, json=body, headers=bearer(SLOW))
        assert response.status_code == 429
        assert 90 <= int(response.headers["retry-after"]) <= 100
        assert "key 'slow' may predict 0.01 times a second, 2 at once" in said(response)
    for path in METADATA:
        assert locked.get(path, headers=bearer(SLOW)).status_code == 200
    assert locked.post(PREDICTIONS[0][0], json=BODY, headers=bearer(READ)).status_code == 200


def test_a_rate_without_keys_passes_health_and_metadata_by(start, models):
    with start(Settings(models=models, device="cpu", rate_limit=0.01, rate_burst=3)) as live:
        path, body = PREDICTIONS[0]
        for _ in range(5):
            for free in (*METADATA, "/health/ready", "/openapi.json"):
                assert live.client.get(free).status_code == 200
            assert live.client.get(path).status_code == 405
        assert [live.client.post(path, json=body).status_code for _ in range(4)] == [200] * 3 + [
            429
        ]
        elsewhere = {"authorization": "Bearer whoever"}
        assert live.client.post(path, json=body, headers=elsewhere).status_code == 429


def test_who_waits_for_retry_after_is_served(start, models):
    with start(Settings(models=models, device="cpu", rate_limit=2, rate_burst=1)) as live:
        path, body = PREDICTIONS[0]
        deadline = time.monotonic() + 30
        while (response := live.client.post(path, json=body)).status_code == 200:
            assert time.monotonic() < deadline
        assert response.status_code == 429
        time.sleep(int(response.headers["retry-after"]))
        assert live.client.post(path, json=body).status_code == 200


def test_keys_come_and_go_while_the_server_runs(start, models, tmp_path, caplog):
    path, key = tmp_path / "keys.toml", new_key()
    path.write_text("")
    path.chmod(0o600)

    def becomes(status):
        deadline = time.monotonic() + 20
        while live.client.get("/v1/models", headers=bearer(key)).status_code != status:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    with start(Settings(models=models, device="cpu", api_keys=path)) as live:
        assert live.client.get("/v1/models", headers=bearer(key)).status_code == 401
        path.write_text(key_entry("late", key, KeyScope.READ, None, None))
        becomes(200)
        path.write_text("[keys.late")
        deadline = time.monotonic() + 20
        while "the keys stay what they were" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        becomes(200)
        path.write_text("")
        becomes(401)


@pytest.mark.parametrize("path", [*OPEN, "/docs/oauth2-redirect", "/redoc"])
def test_what_needs_no_scope(path):
    assert scope_of(path, metrics=False) is None
    assert scope_of(path, metrics=True) is (KeyScope.READ if path == "/metrics" else None)


@pytest.mark.parametrize(
    "path",
    ["", "/health", "//health/live", "/v2/healthy", "/docs/", "/v2/models/health/ready", "/x"],
)
def test_what_is_not_known_needs_a_key(path):
    assert scope_of(path, metrics=False) is KeyScope.READ


def test_the_state_of_a_request_says_whose_key_it_was(models, keys):
    """For logs and traces outside of the gate; a server's scope has a state, httpx's has none."""
    app = create_app(Settings(models=models, device="cpu", api_keys=keys))
    states = []

    async def outside(scope, receive, send):
        states.append({})
        await app(scope | {"state": states[-1]}, receive, send)

    async def main():
        transport = httpx.ASGITransport(outside)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            for headers in ({}, bearer("nonsense"), bearer(READ), bearer(ADMIN)):
                await client.get("/v1/models", headers=headers)

    asyncio.run(main())
    assert [state.get("key") for state in states] == [None, None, "reader", "boss"]
