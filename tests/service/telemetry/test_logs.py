"""How log records are written, as seen by whoever reads the server's stderr."""

import asyncio
import contextlib
import io
import json
import logging
import re
import sys

import httpx
import pytest

from service import Settings
from service.telemetry.logs import JsonLines, TextLines, Together
from service.telemetry.request_ids import Current, current

BODY = {"inputs": [[1, 2, 3]]}
TS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def record(message, *args, exc_info=None):
    return logging.LogRecord("service.x", logging.WARNING, "", 0, message, args, exc_info)


def failure():
    try:
        int("first\nsecond")
    except ValueError:
        return sys.exc_info()


@pytest.fixture
def request_known():
    token = current.set(Current("abc", model="meter", version=2))
    yield
    current.reset(token)


def test_json_has_what_is_known():
    line = json.loads(JsonLines().format(record("%d of %d", 1, 2)))
    assert TS.fullmatch(line.pop("ts"))
    assert line == {"level": "warning", "logger": "service.x", "message": "1 of 2"}


def test_json_names_the_request_knownand_its_model(request_known):
    line = json.loads(JsonLines().format(record("x")))
    assert (line["request_id"], line["model"], line["version"]) == ("abc", "meter", 2)


@pytest.mark.parametrize("text", ["a\nb\r\n{}", 'a"b\\', "\u2028\x85\x1b[31m", "\udcff", "é"])
def test_json_is_one_line_whatever_the_text(text):
    written = JsonLines().format(record("got %s", text))
    assert len(written.splitlines()) == 1
    assert json.loads(written)["message"] == f"got {text}"


def test_json_holds_the_traceback():
    line = json.loads(JsonLines().format(record("failed", exc_info=failure())))
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith(r"'first\nsecond'")


@pytest.mark.parametrize(
    "text", ["a\n2026-01-01 INFO forged", "a\r\nb", "a\u2028b\x85c", "\x1b[31m"]
)
def test_text_is_one_line_whatever_the_message(text, request_known):
    written = TextLines().format(record("got %s", text))
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written
    assert written.endswith(" [abc]")


def test_text_lets_a_traceback_be(request_known):
    written = TextLines().format(record("failed", exc_info=failure()))
    assert written.splitlines()[1] == "Traceback (most recent call last):"


@pytest.fixture(scope="module")
def json_lines(spawn, repository):
    with spawn(repository, log_format="JSON") as server:
        url = f"http://127.0.0.1:{server.port}"
        with httpx.Client(base_url=url, timeout=30) as client:
            client.get("/health/live")
            client.get("/metrics")
            client.post("/v1/models/shapes/predict?key=s3cr3t", json={"inputs": [[1, 2, 3, 4]]},
                        headers={"x-request-id": "mine", "authorization": "s3cr3t"})  # fmt: skip
            client.get("/v1/x%0a%7B%22level%22:%22forged%22%7D", headers={"x-request-id": "bad"})
        server.process.terminate()
        log = server.read_rest()
    assert server.process.returncode == 0, log
    return log


def test_every_line_of_a_server_is_json(json_lines):
    lines = [json.loads(line) for line in json_lines.splitlines()]
    assert all(TS.fullmatch(line["ts"]) for line in lines)
    assert {line["level"] for line in lines} <= {"info", "warning", "error"}
    assert lines[-1]["message"] == "stopped"


def test_a_request_knownis_written_once_with_its_model(json_lines):
    lines = [json.loads(line) for line in json_lines.splitlines()]
    (access,) = [line for line in lines if line.get("request_id") == "mine"]
    assert access["logger"] == "service.telemetry.access_log"
    assert (access["model"], access["version"]) == ("shapes", 2)
    assert (access["method"], access["path"]) == ("POST", "/v1/models/shapes/predict")
    assert access["status"] == 200
    assert access["bytes"] > 0
    assert access["duration_ms"] > 0
    assert access["client"].startswith("127.0.0.1:")
    assert not [line for line in lines if line.get("path") in {"/health/live", "/metrics"}]


def test_no_secret_is_written_and_no_line_forged(json_lines):
    assert "s3cr3t" not in json_lines
    lines = [json.loads(line) for line in json_lines.splitlines()]
    (access,) = [line for line in lines if line.get("request_id") == "bad"]
    assert (access["level"], access["status"]) == ("info", 404)


def test_the_traceback_of_a_bug_names_its_request(start, repository):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    try:
        with start(Settings(models=repository, device="cpu")) as live:
            object.__setattr__(live.runtime.registry.ready("meter"), "predictors", ())
            headers = {"x-request-id": "mine"}
            answer = live.client.post("/v1/models/meter/predict", json=BODY, headers=headers)
            assert answer.status_code == 500
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (bug,) = [line for line in lines if "IndexError" in line.get("exception", "")]
    assert (bug["level"], bug["request_id"]) == ("error", "mine")
    assert (bug["model"], bug["version"]) == ("meter", 1)


def test_text_names_the_request(spawn, repository):
    with spawn(repository) as server:
        httpx.get(f"http://127.0.0.1:{server.port}/v1/models", headers={"x-request-id": "mine"})
        server.process.terminate()
        log = server.read_rest()
    (line,) = [line for line in log.splitlines() if "/v1/models" in line]
    assert re.search(
        r' INFO 127\.0\.0\.1:\d+ "GET /v1/models" 200, \d+ bytes, [\d.]+ ms \[mine\]$', line
    )


class Counted(io.StringIO):
    """Counts what is written."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, text):
        self.writes.append(text)
        return super().write(text)


@pytest.fixture
def together():
    stream, logger = Counted(), logging.getLogger("tests.together")
    handler = Together()
    handler.setStream(stream)
    handler.setFormatter(TextLines())
    logger.addHandler(handler)
    logger.setLevel("INFO")
    logger.propagate = False
    yield logger, stream
    logger.removeHandler(handler)


def test_lines_of_one_turn_are_written_together(together):
    logger, stream = together

    async def turns():
        for number in range(5):
            logger.info("line %d", number)
        assert not stream.writes
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(stream.writes) == 1
        logger.info("line 5")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(turns())
    assert len(stream.writes) == 2
    lines = stream.getvalue().splitlines()
    assert [line.rpartition("INFO ")[2] for line in lines] == [f"line {n}" for n in range(6)]


def test_what_is_worse_and_what_others_say_is_written_at_once(together):
    logger, stream = together

    async def turn():
        logger.info("first")
        logger.warning("second")
        assert len(stream.getvalue().splitlines()) == 2, "and not before what came before it"
        await asyncio.to_thread(logger.info, "third")
        assert len(stream.getvalue().splitlines()) == 3

    asyncio.run(turn())
    logger.info("fourth")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == [
        "first", "second", "third", "fourth",
    ]  # fmt: skip


def test_what_waits_is_written_when_logging_ends(together):
    logger, stream = together

    async def turn():
        logger.info("last")
        asyncio.get_running_loop().stop()

    loop = asyncio.new_event_loop()
    with contextlib.suppress(RuntimeError):
        loop.run_until_complete(turn())
    loop.close()
    next(handler for handler in logger.handlers if isinstance(handler, Together)).flush()
    assert stream.getvalue().endswith("last\n")


def test_a_record_that_cannot_be_formatted_stops_nobody(together, capsys):
    logger, stream = together
    handler = next(handler for handler in logger.handlers if isinstance(handler, Together))
    handler.handle(record("%d", "no number"))  # pytest's own handler would raise
    logger.info("after")
    assert stream.getvalue().endswith("after\n")
    assert "--- Logging error ---" in capsys.readouterr().err
