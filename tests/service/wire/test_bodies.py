import contextlib
import socket

import pytest

from service import Settings

LIMIT = 2000
PATHS = ("/v1/models/meter/predict", "/v2/models/meter/infer")


@pytest.fixture(scope="module")
def small(repository, start):
    with start(Settings(models=repository, device="cpu", max_body_bytes=LIMIT)) as server:
        yield server


def said(response):
    body = response.json()
    return body.get("error") or body["detail"]


@pytest.mark.parametrize("path", PATHS)
def test_a_declared_length_over_the_limit_is_refused(small, path):
    response = small.client.post(path, content=b" " * (LIMIT + 1))
    assert response.status_code == 413
    assert "2000 bytes, this one has 2001 bytes" in said(response)
    assert "MCDROP_MAX_BODY_BYTES" in said(response)


@pytest.mark.parametrize("path", PATHS)
def test_a_body_of_unknown_length_is_counted(small, path):
    def chunks():
        yield b'{"inputs": [[1, 2, 3]]}'
        for _ in range(30):
            yield b" " * 100

    response = small.client.post(path, content=chunks())
    assert response.status_code == 413
    assert "2000 bytes" in said(response)


def test_up_to_the_limit_is_taken_with_and_without_a_length(small):
    body = b'{"inputs": [[1, 2, 3]]}'.ljust(LIMIT)
    assert small.client.post(PATHS[0], content=body).status_code == 200
    assert small.client.post(PATHS[0], content=iter([body[:100], body[100:]])).status_code == 200


def test_an_endless_body_is_not_read_to_its_end(small):
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        request = f"POST {PATHS[0]} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(request.encode())
        chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(4):
                connection.sendall(chunk)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b'{"inputs": [[NaN]]}', "NaN and Infinity are not JSON"),
        (b'{"inputs": [[1e999]]}', "not JSON"),
        (b"[" * 1500, "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_bodies_that_are_not_json(small, body, words):
    response = small.client.post(PATHS[0], content=body)
    assert response.status_code == 400
    assert words in said(response)


def test_identity_is_no_encoding_however_it_is_written(small):
    for encoding in ("identity", "Identity", "IDENTITY"):
        headers = {"content-encoding": encoding}
        response = small.client.post(PATHS[0], json={"inputs": [[1, 2, 3]]}, headers=headers)
        assert response.status_code == 200
