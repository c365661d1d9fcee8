"""HTTP as no client library would send it: the server answers 4xx, or hangs up, and lives."""

import json
import re
import socket

import httpx
import pytest

BODY = b'{"inputs": [[1, 2, 3]], "outputs": ["mean"]}'
PATH = b"/v1/models/meter/predict"
POST = b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\n"
GOOD = POST + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(spawn, repository):
    with spawn(repository, warmup_rows=1, max_body_bytes="1MiB") as process:
        yield process


@pytest.fixture(autouse=True)
def answers_as_before(server):
    """A request beside all of this is answered rightly, before, meanwhile and after."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        before = client.post(PATH.decode(), content=BODY).json()["outputs"]

        def same():
            after = client.post(PATH.decode(), content=BODY).json()["outputs"]
            return after["mean"][0] == pytest.approx(before["mean"][0])

        yield same
        assert same()
    assert server.process.poll() is None
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture
def connect(server):
    """Open a connection to the server."""
    opened = []

    def connect():
        opened.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def read(connection):
    """All that comes until the server hangs up."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:  # it hung up on what it has not read
        pass
    return b"".join(parts)


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def send(connection, *parts):
    """Send what the server is still willing to take."""
    try:
        for part in parts:
            connection.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        pass


CLOSE = b"Connection: close\r\n"


def chunked(*chunks, path=PATH):
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + CLOSE
    return b"".join([head, b"\r\n", *chunks])


def test_pipelined_requests_are_answered_in_their_order(connect):
    connection = connect()
    bad = POST + b"Content-Length: 2\r\n\r\n{}"
    last = GET + CLOSE + b"\r\n"
    connection.sendall(GOOD * 3 + bad + GOOD + last)
    answer = read(connection)
    assert statuses(answer) == [200, 200, 200, 422, 200, 200]
    means = [float(mean) for mean in re.findall(rb'"mean":\[\[(.*?)\]\]', answer)]
    assert means == pytest.approx([means[0]] * 4)


def test_pipelining_much_is_answered_in_full(connect):
    connection = connect()
    request = GET + b"\r\n"
    connection.sendall(request * 2000 + GET + CLOSE + b"\r\n")
    assert statuses(read(connection)) == [200] * 2001


def test_requests_byte_by_byte(connect):
    connection = connect()
    for byte in GOOD.replace(b"Host", CLOSE + b"Host", 1):
        connection.sendall(bytes([byte]))
    answer = read(connection)
    assert statuses(answer) == [200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["model"] == "meter"


@pytest.mark.parametrize(
    "request_line",
    [
        b"", b"\x00", b"\r\n\r\n\x00", b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET / HTTP/9.9",
        b"get / HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET / HTTP/1.1\x00", b"G\xffT / HTTP/1.1",
        b"GET \xff\xfe HTTP/1.1", b"GET http://[::1 HTTP/1.1", b"CONNECT / HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0",
    ],
)  # fmt: skip
def test_lines_that_are_no_request(connect, request_line):
    connection = connect()
    connection.sendall(request_line + b"\r\nHost: x\r\n" + CLOSE + b"\r\n")
    connection.shutdown(socket.SHUT_WR)
    # a redirect from / where the parser is lenient: two spaces, or no version of HTTP
    assert all(300 <= status < 500 for status in statuses(read(connection)))


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: -1", b"Content-Length: +1", b"Content-Length: 1e3",
        b"Content-Length: 0x10", b"Content-Length: 99999999999999999999999999",
        b"Content-Length: 18446744073709551616", b"Content-Length: 1, 2",
        b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: ",
        b"Content-Length: 44\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked",
        b"No colon", b": no name", b"Na me: x", b"X: a\x00b", b"X: a\rb", b"X: a\nb",
        b" folded: x", b"\xff\xff: x",
    ],
)  # fmt: skip
def test_headers_that_are_wrong(connect, header):
    connection = connect()
    connection.sendall(POST + header + b"\r\n\r\n" + BODY)
    connection.shutdown(socket.SHUT_WR)
    found = statuses(read(connection))
    assert len(found) <= 1  # the body is never taken for a request
    assert all(400 <= status < 500 for status in found)


@pytest.mark.parametrize("length", [1 << 20, 2**31, 2**63 - 1, 2**64 - 1])
def test_an_absurd_length_is_refused_before_the_body_comes(connect, length):
    connection = connect()
    connection.sendall(
        POST + b"Content-Length: %d\r\n\r\n" % (length + 1 if length < 2**64 - 1 else length)
    )
    answer = read(connection)
    assert statuses(answer) in ([413], [400])


BAD_CHUNKS = [
    b"x\r\n", b"-1\r\n", b"+5\r\n", b"0x5\r\n", b"5 5\r\n", b"\r\n", b"g\r\nx",
    b"ffffffffffffffff0\r\n", b"ffffffffffffffff\r\n" + BODY, b"2\r\n{}x\r\n0\r\n\r\n",
    b"2\r\n{}", b"2c\r\n" + BODY,
]  # fmt: skip


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
def test_chunks_that_are_wrong(connect, chunks):
    connection = connect()
    send(connection, chunked(chunks))
    connection.shutdown(socket.SHUT_WR)
    found = statuses(read(connection))
    assert len(found) <= 1
    assert all(400 <= status < 500 for status in found)


def test_chunks_as_they_should_be(connect):
    connection = connect()
    halves = BODY[:20], BODY[20:]
    parts = [b"%x;note=1\r\n%s\r\n" % (len(half), half) for half in halves]
    connection.sendall(chunked(*parts, b"0\r\nTrailer: x\r\n\r\n"))
    assert statuses(read(connection)) == [200]


def test_a_body_in_chunks_is_counted(connect):
    connection = connect()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    send(connection, chunked(), *[chunk] * 40)
    assert statuses(read(connection)) == [413]


def test_expect_continue(connect):
    connection = connect()
    head = b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(BODY) + CLOSE
    connection.sendall(POST + head + b"\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    connection.sendall(BODY)
    assert statuses(read(connection)) == [200]


def test_expect_continue_of_a_body_that_is_too_large(connect):
    connection = connect()
    connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert statuses(read(connection)) == [413]


@pytest.mark.parametrize("stop", [1, 20, 80, len(GOOD) - 1])
@pytest.mark.parametrize("how", ["half", "close", "reset"])
def test_connections_that_end_half_way(connect, answers_as_before, stop, how):
    connection = connect()
    connection.sendall(GOOD[:stop])
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
        assert all(400 <= status < 500 for status in statuses(read(connection)))
    elif how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    else:
        connection.close()
    assert answers_as_before()


def test_a_half_closed_connection_is_answered_or_let_go(connect):
    connection = connect()
    connection.sendall(GOOD)
    connection.shutdown(socket.SHUT_WR)
    assert statuses(read(connection)) in ([200], [])  # it may be taken for one that went away


def test_many_connections_that_say_nothing_keep_nobody_out(connect, answers_as_before):
    for _ in range(200):
        connect().sendall(b"POST /v1/models/meter/predict HTTP/1.1\r\nX: ")
    assert answers_as_before()


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"x" * (20 << 20), GET + b"X: x\r\n" * (3 << 20),
        GET + b"x" * (20 << 20), b"GET /" + b"x" * (20 << 20),
    ],
    ids=["a long value", "many", "a long name", "a long path"],
)  # fmt: skip
def test_heads_without_an_end_are_not_kept(connect, answers_as_before, head):
    connection = connect()
    send(connection, head)
    assert statuses(read(connection)) in ([431], [])
    assert answers_as_before()


@pytest.mark.parametrize("trailer", [b"X: " + b"x" * (20 << 20), b"X: x\r\n" * (3 << 20)])
def test_trailers_without_an_end_are_not_kept(connect, trailer):
    connection = connect()
    send(connection, chunked(b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)), trailer)
    assert statuses(read(connection)) in ([431], [])
