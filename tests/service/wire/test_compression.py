"""Compressed bodies, over real sockets; what is made of a bomb is measured."""

import asyncio
import contextlib
import gzip
import itertools
import re
import socket
import time
import tracemalloc
import zlib

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import Settings
from service.errors import BodyTooLargeError, EncodingError, MalformedBodyError
from service.wire.compression import Compress, Decompress, choose_coding

LIMIT = 20_000
NATIVE, OIP = PATHS = ("/v1/models/meter/predict", "/v2/models/meter/infer")
BODIES = {
    NATIVE: b'{"inputs": [[1, 2, 3]]}',
    OIP: b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}',
}
PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.fixture(scope="module")
def small(repository, start):
    with start(Settings(models=repository, device="cpu", max_body_bytes=LIMIT)) as server:
        yield server


def said(response):
    body = response.json()
    return body.get("error") or body["detail"]


def fields(response):
    outputs = response.json()["outputs"]
    if isinstance(outputs, dict):
        return outputs
    return {output["name"]: output["data"] for output in outputs}


def post(server, path, content, encoding):
    headers = encoding if isinstance(encoding, list) else [("content-encoding", encoding)]
    return server.client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP", "identity, gzip", ""])
def test_requests(small, path, encoding, alike):
    coding = encoding.lower().rpartition(", ")[2]
    packed = PACK.get(coding, bytes)(BODIES[path])
    answer = post(small, path, packed, encoding)
    assert answer.status_code == 200
    plain = small.client.post(path, content=BODIES[path])
    alike(fields(answer), fields(plain))


@pytest.mark.parametrize("path", PATHS)
def test_requests_that_come_in_small_parts(small, path):
    packed = gzip.compress(BODIES[path])
    parts = (packed[place : place + 1] for place in range(len(packed)))
    assert post(small, path, parts, "gzip").status_code == 200


def test_up_to_the_limit_and_no_further(small):
    for coding, pack in PACK.items():
        body = BODIES[NATIVE].ljust(LIMIT)
        assert post(small, NATIVE, pack(body), coding).status_code == 200
        for path in PATHS:
            response = post(small, path, pack(body + b" "), coding)
            assert response.status_code == 413
            assert "20000 bytes, this one has more when it is decompressed" in said(response)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda packed: packed[:-1], "end too early"),
        (lambda packed: packed[: len(packed) // 2], "end too early"),
        (lambda packed: b"", "end too early"),
        (lambda packed: packed + b"\0", "goes on after the end"),
        (lambda packed: packed + packed, "goes on after the end"),
        (lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]), "is not (gzip|deflate) data"),
        (lambda packed: b"?" + packed, "is not (gzip|deflate) data"),
        (lambda packed: BODIES[NATIVE], "is not (gzip|deflate) data"),
    ],
)
def test_broken_data_is_400(small, path, coding, change, words):
    response = post(small, path, change(PACK[coding](BODIES[path])), coding)
    assert response.status_code == 400
    assert re.search(words, said(response))


def test_each_is_not_taken_for_the_other(small):
    for coding, other in (("gzip", "deflate"), ("deflate", "gzip")):
        assert post(small, NATIVE, PACK[coding](BODIES[NATIVE]), other).status_code == 400


@pytest.mark.parametrize(
    "encoding",
    [
        "br",
        "zstd",
        "gzip, gzip",
        "deflate, gzip",
        "gzip;q=1",
        [("content-encoding", "gzip"), ("content-encoding", "gzip")],
    ],
)
def test_several_and_unknown_encodings_are_415(small, encoding):
    for path, status in zip(PATHS, (415, 400), strict=True):
        response = post(small, path, gzip.compress(BODIES[path]), encoding)
        assert response.status_code == status
        assert "is not offered" in said(response)
        assert response.headers["accept-encoding"] == "gzip, deflate"


def test_a_bomb_is_stopped_before_its_end_is_sent(small):
    bomb = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as connection:
        head = f"POST {NATIVE} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        part = bomb.compress(b" " * 10_000_000) + bomb.flush(zlib.Z_SYNC_FLUSH)
        assert len(part) < LIMIT
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def messages(*parts):
    """A `receive` that gives a body in these parts, then the disconnect."""
    left = [
        {"type": "http.request", "body": part, "more_body": place < len(parts)}
        for place, part in enumerate(parts, start=1)
    ]

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    return receive


def read(parts, coding, limit):
    """What an application behind `Decompress` reads, and the sizes of the pieces."""
    got = []

    async def application(scope, receive, send):
        assert [name for name, _ in scope["headers"]] == [b"host"]
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            got.append(message["body"])
        got.append(message.get("body", b""))
        assert (await receive())["type"] == "http.disconnect"

    headers = [(b"host", b"x"), (b"content-encoding", coding.encode()), (b"content-length", b"1")]
    scope = {"type": "http", "headers": headers}
    asyncio.run(Decompress(application, limit)(scope, messages(*parts), None))
    return b"".join(got)


@settings(deadline=None)
@given(
    body=st.binary(max_size=2000) | st.integers(0, 3_000_000).map(lambda size: b"ab" * size),
    coding=st.sampled_from(["gzip", "deflate"]),
    cuts=st.lists(st.integers(0, 5000), max_size=4),
)
def test_every_body_comes_back_however_it_is_cut(body, coding, cuts):
    packed = PACK[coding](body)
    edges = [0, *sorted(cuts), len(packed)]
    parts = [packed[low:high] for low, high in itertools.pairwise(edges)]
    assert read(parts, coding, len(body)) == body
    if body:
        with pytest.raises(BodyTooLargeError):
            read(parts, coding, len(body) - 1)


@given(junk=st.binary(max_size=200), coding=st.sampled_from(["gzip", "deflate", "lzma"]))
def test_junk_is_an_error_of_ours(junk, coding):
    with pytest.raises((MalformedBodyError, EncodingError)):
        read([junk], coding, 1000)


def test_no_more_than_the_limit_is_ever_held():
    bomb = gzip.compress(bytes(64 << 20), 9)
    limit = 4 << 20
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError):
            read([bomb], "gzip", limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit + (2 << 20)  # pieces so far, and the stream's own state


def test_a_caller_who_hangs_up_after_a_compressed_body_frees_the_device(start, repository):
    settings = Settings(models=repository, device="cpu", max_samples=10**8, memory_budget=1 << 20)
    body = gzip.compress(b'{"inputs": [[1, 2, 3]], "samples": 100000000}')
    with start(settings) as live:
        workers = live.runtime.scheduler._workers
        headers = {"content-encoding": "gzip"}
        with pytest.raises(httpx.ReadTimeout):
            live.client.post(NATIVE, content=body, headers=headers, timeout=0.5)
        deadline = time.monotonic() + 20
        while sum(worker.load() for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.01)


# answers


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/models/shapes"])
def test_answers_are_compressed_for_who_accepts_it(client, path):
    plain = client.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for coding in ("gzip", "deflate"):
        response = client.get(path, headers={"accept-encoding": coding})
        assert response.headers["content-encoding"] == coding
        assert response.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert int(response.headers["content-length"]) < len(plain.content)
        assert response.content == plain.content  # decompressed by httpx


def test_the_length_is_that_of_what_is_sent(client):
    with client.stream("GET", "/openapi.json", headers={"accept-encoding": "gzip"}) as response:
        raw = b"".join(response.iter_raw())
    assert len(raw) == int(response.headers["content-length"])
    assert gzip.decompress(raw) == client.get("/openapi.json").content


def test_head_says_what_get_would(client):
    headers = {"accept-encoding": "gzip"}
    head, get = (client.request(verb, "/openapi.json", headers=headers) for verb in ("HEAD", "GET"))
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["content-encoding"] == "gzip"


def test_small_answers_are_left_alone(client):
    response = client.get("/health/live", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in response.headers
    assert "vary" not in response.headers


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ([], None),
        ([""], None),
        (["gzip"], "gzip"),
        (["deflate"], "deflate"),
        (["GZip"], "gzip"),
        (["x-gzip"], "gzip"),
        (["gzip, deflate, br, zstd"], "gzip"),
        (["gzip;q=0.5, deflate"], "deflate"),
        (["gzip;q=0.5, deflate; q=0.6"], "deflate"),
        (["gzip;q=0"], None),
        (["gzip;q=0, deflate;q=0.1"], "deflate"),
        (["*"], "gzip"),
        (["gzip;q=0, *"], "deflate"),
        (["*;q=0"], None),
        (["br"], None),
        (["identity"], None),
        (["identity, gzip"], "gzip"),
        (["gzip;q=0.5, identity"], None),
        (["identity;q=0, gzip;q=0.1"], "gzip"),
        (["gzip;q=2"], None),
        (["gzip;q=-1, deflate;q=nan"], None),
        (["br", "gzip"], "gzip"),
        (["gzip;level=1;q=0"], None),
    ],
)
def test_the_weights_decide(accepted, coding):
    assert choose_coding(accepted) == coding


def answer(*sent, accepted=b"gzip"):
    """What `Compress` makes of these messages."""
    got = []

    async def application(scope, receive, send):
        for message in sent:
            await send(message)

    async def send(message):
        got.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", accepted)]}
    asyncio.run(Compress(application)(scope, None, send))
    return got


def head(*headers):
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def part(body, *, more=False):
    return {"type": "http.response.body", "body": body, "more_body": more}


@pytest.mark.parametrize(
    "sent",
    [
        [head((b"content-type", b"text/event-stream; charset=utf-8")), part(b"data: 1\n\n" * 500)],
        [head((b"content-type", b"text/event-stream")), part(b"a" * 5000, more=True), part(b"")],
        [head((b"content-type", b"text/plain")), part(b"a" * 5000, more=True), part(b"")],
        [head((b"content-encoding", b"br")), part(b"a" * 5000)],
        [head(), part(b"a" * 1023)],
        [head(), part(b"")],
    ],
)
def test_what_is_passed_on_as_it_comes(sent):
    assert answer(*sent) == sent


def test_events_are_not_kept_back():
    got = []

    async def application(scope, receive, send):
        await send(head((b"content-type", b"text/event-stream")))
        await send(part(b"data: 1\n\n", more=True))
        assert [message["type"] for message in got] == ["http.response.start", "http.response.body"]

    async def send(message):
        got.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", b"gzip")]}
    asyncio.run(Compress(application)(scope, None, send))


def test_vary_is_added_to_what_is_there():
    start, _ = answer(head((b"vary", b"Accept")), part(b"a" * 5000))
    assert dict(start["headers"])[b"vary"] == b"Accept, Accept-Encoding"


def test_predictions_are_compressed(client):
    body = {"inputs": [[0.1, 0.2, 0.3, 0.4]] * 8}
    response = client.post("/v1/models/shapes/predict", json=body)
    assert response.headers["content-encoding"] == "gzip"
    assert len(response.json()["outputs"]["mean"]) == 8
