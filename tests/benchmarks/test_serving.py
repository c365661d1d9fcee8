"""The load tests' own tests: what they count, time and check, against servers that are known."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import record
from benchmarks.serving import figures, load, overload, servers, soak
from benchmarks.serving.document import DOCUMENT, blocks
from benchmarks.serving.load import Outcome, Stream
from benchmarks.serving.wire import encode

MODULES = ("wire", "load", "figures")


class Known:
    """A server with delays that are known: it answers with the body that it was sent.

    The path says how: `/status/429`, `/delay/0.05` (seconds), `/parts` (in pieces), `/close` (says
    goodbye), `/cut` (no answer), `/never`, `/silent` (no content-length). `stall` holds up
    everybody.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.connections = 0
        self._stalled = asyncio.Event()

    async def serve(self, reader, writer) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _one(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        self.seen += 1
        await self._stalled.wait()
        return await self._answer(head.split(" ")[1], body, writer)

    async def _answer(self, path, body, writer) -> bool:
        what, _, value = path[1:].partition("/")
        if what == "cut":
            return False
        if what == "never":
            await asyncio.sleep(60)
        if what == "delay":
            await asyncio.sleep(float(value))
        status = int(value) if what == "status" else 200
        more = "connection: close\r\n" if what == "close" else ""
        size = "" if what == "silent" else f"Content-Length: {len(body)}\r\n"
        raw = f"HTTP/1.1 {status} x\r\n{more}{size}retry-after: 1\r\n\r\n".encode() + body
        step = 7 if what == "parts" else len(raw)
        for begin in range(0, len(raw), step):
            writer.write(raw[begin : begin + step])
            await writer.drain()
            if step == 7:
                await asyncio.sleep(0.001)
        return what != "close"

    async def main(self, started) -> None:
        self._stalled.set()
        self._over = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        started.set()
        async with listener:
            await self._over.wait()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stall(self, seconds: float) -> None:
        """Answer nobody for so long."""
        self.loop.call_soon_threadsafe(self._stalled.clear)
        time.sleep(seconds)
        self.loop.call_soon_threadsafe(self._stalled.set)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)


@pytest.fixture
def known() -> Iterator[Known]:
    server, started = Known(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.main(started)))
    thread.start()
    assert started.wait(10)
    yield server
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def _stream(known: Known, path: str = "/", seconds: float = 0.5, **more) -> Stream:
    bodies = [encode(path, b'{"number":%d}' % number) for number in range(8)]
    return Stream("s", known.port, tuple(bodies), seconds, **more)


# --- the generator


def test_an_open_loop_sends_what_is_due_and_counts_every_answer(known: Known) -> None:
    run = load.run([_stream(known, seconds=1.0, rate=200, evenly=True)])
    assert len(run.outcomes) == known.seen == 200
    assert {o.status for o in run.outcomes} == {200}
    due = sorted(o.due - run.start for o in run.outcomes)
    np.testing.assert_allclose(due, np.arange(200) / 200, atol=1e-6)
    assert all(o.due <= o.sent <= o.done for o in run.outcomes)
    assert run.cpu_s > 0


def test_each_answer_keeps_the_number_of_its_request(known: Known) -> None:
    run = load.run([_stream(known, "/parts", clients=5), _stream(known, rate=100)])
    assert len(run.outcomes) > 20
    for outcome in run.outcomes:
        assert json.loads(outcome.body) == {"number": outcome.number}
    assert {o.number for o in run.outcomes} == set(range(8))


def test_latency_is_what_the_server_takes(known: Known) -> None:
    run = load.run([_stream(known, "/delay/0.1", seconds=1.0, rate=20)])
    found = figures.figures(run.outcomes, run.start, run.start + 1, closed=False)
    assert found["p50_ms"] >= 99
    assert found["requests"] == len(run.outcomes) == known.seen
    # all that were under way at the end are waited for
    assert max(o.done for o in run.outcomes) >= max(o.due for o in run.outcomes) + 0.099


def test_a_closed_loop_has_its_clients_and_no_more(known: Known) -> None:
    run = load.run([_stream(known, "/delay/0.1", seconds=1.0, clients=3)])
    # 3 clients, 0.1 s each: 30 at most, and half of that on a machine that has other things to do
    assert 12 <= len(run.outcomes) <= 33
    assert known.connections == 3
    moments = sorted(event for o in run.outcomes for event in ((o.sent, 1), (o.done - 1e-9, -1)))
    assert max(np.cumsum([step for _, step in moments])) <= 3
    closed = figures.figures(run.outcomes, run.start, run.start + 1, closed=True)
    assert closed["requests"] == sum(o.done < run.start + 1 for o in run.outcomes)
    assert closed["rows_per_s"] == closed["requests"]


def test_a_stall_is_charged_to_everyone_who_would_have_come(known: Known) -> None:
    """Coordinated omission: a closed loop hardly sees what an open one must show."""

    def send(**more):
        thread = threading.Thread(target=lambda: (time.sleep(1.5), known.stall(1.0)))
        thread.start()
        run = load.run([_stream(known, "/", seconds=4.0, **more)])
        thread.join()
        return [o.done - o.due for o in run.outcomes]

    opened, closed = send(rate=100), send(clients=1)
    assert figures.percentiles(opened)["p99_ms"] > 500
    # a quarter of the time, so a quarter of the requests, waited for half a second on average
    assert 0.1 < np.mean(np.array(opened) > 0.25) < 0.4
    assert sum(latency > 0.25 for latency in closed) == 1  # the one client slept through it


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/status/429", 429, b""),
        ("/status/503", 503, b""),
        ("/cut", 0, b"closed before"),
        ("/never", 0, b"TimeoutError"),
        ("/silent", 0, b"content-length"),
    ],
)
def test_errors_are_counted_by_status(known: Known, path: str, status: int, said: bytes) -> None:
    run = load.run([_stream(known, path, rate=20, evenly=True, timeout=0.3)])
    found = figures.figures(run.outcomes, run.start, run.start + 1, closed=False)
    assert found["statuses"] == {str(status): 10}
    assert found["rows_per_s"] == 0
    assert found["p99_ms"] is None
    assert all(said in o.body for o in run.outcomes)
    if status:
        assert all(b"retry-after: 1" in o.head for o in run.outcomes)


def test_a_server_that_is_not_there_is_an_error_and_no_crash() -> None:
    stream = Stream("s", servers.free_port(), (encode("/", b"{}"),), 0.2, clients=2)
    run = load.run([stream])
    assert {o.status for o in run.outcomes} == {load.NO_ANSWER}
    assert len(run.outcomes) < 200  # not in a tight loop


def test_a_server_that_closes_each_connection_is_asked_on_new_ones(known: Known) -> None:
    run = load.run([_stream(known, "/close", rate=20, evenly=True)])
    assert figures.statuses(run.outcomes) == {"200": 10}
    assert known.connections == 10


def test_connections_are_kept(known: Known) -> None:
    load.run([_stream(known, rate=40, evenly=True)])
    assert known.connections < 10


def test_clients_that_go_away_wait_for_nothing(known: Known) -> None:
    run = load.run([_stream(known, "/never", rate=20, evenly=True, hang_up=0.05)])
    assert figures.statuses(run.outcomes) == {str(load.HUNG_UP): 10}
    assert 0 < known.seen < 10  # some went before their request was complete
    assert max(o.done - o.sent for o in run.outcomes) < 5


def test_streams_begin_when_they_are_told(known: Known) -> None:
    late = replace(_stream(known, rate=20), name="late", begin=0.5)
    run = load.run([_stream(known, rate=20), late])
    assert min(o.sent for o in run.of("late")) >= run.start + 0.5
    assert max(o.due for o in run.of("s")) < run.start + 0.5


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    times = load.arrivals(100, 100, seed=3)
    assert times == load.arrivals(100, 100, seed=3) != load.arrivals(100, 100, seed=4)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 100
    # 10,000 expected, standard deviation 100; gaps have a coefficient of variation of 1 ± 0.01.
    # Five deviations on both sides: a false alarm in a million, once, as the seed is fixed
    assert abs(len(times) - 10_000) < 500
    gaps = np.diff(times)
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05


# --- figures


def _outcome(latency: float = 0.01, status: int = 200, at: float = 0.0, **more) -> Outcome:
    outcome = Outcome("s", 0, at, at, at + latency, status, b"", b"")
    return outcome._replace(**more)


@pytest.mark.parametrize("count", [1, 2, 10, 100, 999])
def test_percentiles_are_numpys(count: int) -> None:
    seconds = np.random.default_rng(count).exponential(size=count)
    found = figures.percentiles(seconds.tolist())
    for rank in (50, 95, 99):
        assert found[f"p{rank}_ms"] == pytest.approx(1000 * np.percentile(seconds, rank), abs=1e-5)
    assert found["max_ms"] == pytest.approx(1000 * seconds.max(), abs=1e-5)
    # at least as many of the latencies are no larger
    assert np.mean(1000 * seconds <= found["p95_ms"] + 1e-5) >= 0.95 - 1 / count


def test_a_window_counts_what_is_done_or_due_in_it() -> None:
    outcomes = [_outcome(latency=1.0, at=float(second)) for second in range(10)]
    opened = figures.figures(outcomes, 2, 5, closed=False)
    closed = figures.figures(outcomes, 2, 5, closed=True)
    assert opened["requests"] == closed["requests"] == 3
    assert opened["rows_per_s"] == 1.0
    assert figures.figures(outcomes, 0, 1, closed=True)["requests"] == 0
    assert figures.figures(outcomes, 0, 1, closed=False)["requests"] == 1


def test_recovery_is_when_single_requests_are_quick_again() -> None:
    before = [_outcome(0.01) for _ in range(9)]
    slow = [_outcome(0.5, at=10 + 0.5 * step) for step in range(3)]
    refused = [_outcome(0.001, status=429, at=11.5)]
    quick = [_outcome(0.015, at=12 + 0.02 * step) for step in range(9)]
    usual, after = overload.recovery(before, [*quick, *slow, *refused], end=10.0)
    assert usual == pytest.approx(0.01)
    assert after == pytest.approx(2.0)
    # a quick one between slow ones is no recovery
    assert overload.recovery(before, [*slow, *quick[:4]], end=10.0)[1] is None


def test_growth_of_memory_is_a_slope_with_its_error() -> None:
    times = np.arange(0, 600, 1.0)
    noise = np.random.default_rng(0).normal(0, 2, len(times))

    def grown(slope: float):
        sizes = (400 + slope * times / 60 + noise) * 2**20
        return soak.growth(times.tolist(), sizes.astype(int).tolist())

    for slope in (0.0, 3.0):
        found = grown(slope)
        # 4 standard errors: a false alarm in 16,000, once, as the noise is fixed
        assert abs(found["slope_mib_per_minute"] - slope) < 4 * found["slope_error"]
        assert 0 < found["slope_error"] < 0.2


# --- the page


def test_the_page_shows_the_committed_results() -> None:
    from benchmarks import report
    from benchmarks.serving.__main__ import RESULTS

    page = DOCUMENT.read_text(encoding="utf-8")
    assert report.filled(page, blocks(record.read(RESULTS))) == page


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"benchmarks.serving.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
