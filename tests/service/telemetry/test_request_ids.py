"""Each answer carries the id of its request."""

import re
import socket

import pytest

from service import Settings

MADE = re.compile(r"[0-9a-f]{32}")
BODY = {"inputs": [[1, 2, 3]]}


@pytest.fixture(scope="module")
def small(start, repository):
    with start(Settings(models=repository, device="cpu", max_body_bytes=1000)) as live:
        yield live


@pytest.mark.parametrize("given", ["a", "order-17.2_b", "x" * 128])
def test_a_sane_id_is_taken(client, given):
    assert (
        client.get("/v1/models", headers={"x-request-id": given}).headers["x-request-id"] == given
    )


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\tb", 'a"b', "ä".encode(), b"a\xff", "<>"]
)
def test_any_other_is_replaced(client, given):
    headers = [(b"x-request-id", given if isinstance(given, bytes) else given.encode())]
    assert MADE.fullmatch(client.get("/v1/models", headers=headers).headers["x-request-id"])


def test_each_request_has_one_of_its_own(client):
    ids = {client.get("/v1/models").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5
    assert all(map(MADE.fullmatch, ids))


def test_there_is_one_on_an_answer(client):
    answer = client.post("/v1/models/meter/predict", json=BODY, headers={"x-request-id": "mine"})
    assert answer.headers.get_list("x-request-id") == ["mine"]
    assert (
        answer.json()["id"] != "mine"
    )  # the prediction's, for feedback: callers may repeat theirs


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("GET", "/v2/models/nope", b"", 404),
        ("DELETE", "/v1/models", b"", 405),
        ("POST", "/v1/models/meter/predict", b"{", 400),
        ("POST", "/v1/models/meter/predict", b'{"inputs": [[1]]}', 422),
        ("POST", "/v1/models/meter/predict", b" " * 1001, 413),
        ("HEAD", "/health/live", b"", 200),
    ],
)
def test_errors_carry_it(small, method, path, content, status):
    headers = {"x-request-id": "mine"}
    answer = small.client.request(method, path, content=content, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")


def test_the_answer_to_a_bug_carries_it(start, repository):
    with start(Settings(models=repository, device="cpu")) as live:
        object.__setattr__(live.runtime.registry.ready("meter"), "predictors", ())
        headers = {"x-request-id": "mine"}
        answer = live.client.post("/v1/models/meter/predict", json=BODY, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine")


def test_no_header_is_forged(live):
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\r\n b: c\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
        connection.sendall(smuggled)
        head = connection.recv(65536).split(b"\r\n\r\n")[0]
    assert b"\r\n b: c" not in head
    assert not head.startswith(b"HTTP/1.1 200") or MADE.search(head.decode())
