"""The load generator, and how it is run in a process of its own.

An open stream sends at set times whatever has become of the requests before, and latency counts
from the time that was set: a server that stalls is charged for all who would have come meanwhile
(no coordinated omission). A closed stream has so many clients, each of which waits for its answer.
"""

from __future__ import annotations

import asyncio
import pickle
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.wire import Pool

_ROOT = Path(__file__).resolve().parents[2]
HUNG_UP = -1  # as a status: the client went away, as it was meant to
NO_ANSWER = 0  # as a status: refused, cut off or timed out; the body says which


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests that are sent in one way.

    Attributes:
        name: in the outcomes.
        port: of the server, on this machine.
        requests: whole HTTP requests, sent one after the other, again and again.
        seconds: for how long new ones are sent.
        clients: of a closed stream, each with one request at a time.
        rate: of an open stream, requests a second.
        evenly: an open stream's requests come evenly spaced, instead of as a Poisson process.
        begin: seconds after the start of the load.
        seed: of the arrivals, and of where in `requests` it begins.
        timeout: seconds after which an answer counts as failed.
        hang_up: go away without the answer, after up to as many seconds.
    """

    name: str
    port: int
    requests: tuple[bytes, ...]
    seconds: float
    clients: int = 0
    rate: float = 0.0
    evenly: bool = False
    begin: float = 0.0
    seed: int = 0
    timeout: float = 60.0
    hang_up: float | None = None


class Outcome(NamedTuple):
    """What became of a request; times are `time.monotonic()`, which processes share."""

    stream: str
    number: int  # of the request in its stream
    due: float
    sent: float
    done: float
    status: int
    head: bytes  # empty with status 200
    body: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """All outcomes of a load, when it started, and the processor time that sending it took."""

    start: float
    outcomes: list[Outcome]
    cpu_s: float

    def of(self, name: str) -> list[Outcome]:
        """The outcomes of a stream."""
        return [outcome for outcome in self.outcomes if outcome.stream == name]


def arrivals(rate: float, seconds: float, seed: int = 0, *, evenly: bool = False) -> list[float]:
    """When the requests of an open stream are due, in seconds from its beginning.

    Example:
        >>> arrivals(4, 1, evenly=True)
        [0.0, 0.25, 0.5, 0.75]
    """
    if evenly:
        return [number / rate for number in range(round(rate * seconds))]
    draw, due, times = random.Random(seed), 0.0, []
    while (due := due + draw.expovariate(rate)) < seconds:
        times.append(due)
    return times


def run(streams: Sequence[Stream]) -> Run:
    """Send streams, all at once, from a process of their own, and wait for every outcome."""
    process = start(streams)
    assert process.stdout is not None
    with process, process.stdout as output:
        raw = output.read()
    if process.returncode:
        raise RuntimeError(f"the load generator failed with code {process.returncode}")
    result: Run = pickle.loads(raw)
    return result


def start(streams: Sequence[Stream]) -> subprocess.Popen[bytes]:
    """The process that sends the streams; its outcomes come pickled on its stdout."""
    command = [sys.executable, "-m", "benchmarks.serving.sender"]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    with process.stdin as given:
        given.write(pickle.dumps(tuple(streams)))
    return process


async def send(streams: Sequence[Stream]) -> Run:
    """Send streams from this event loop."""
    pools = {stream.port: Pool(stream.port) for stream in streams}
    outcomes: list[Outcome] = []
    begin = time.monotonic() + 0.05
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            sender = _Sender(stream, pools[stream.port], outcomes)
            group.create_task(sender.send(begin + stream.begin))
    for pool in pools.values():
        pool.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Run(begin, outcomes, used.ru_utime + used.ru_stime)


class _Sender:
    """Sends one stream."""

    def __init__(self, stream: Stream, pool: Pool, outcomes: list[Outcome]) -> None:
        self._stream = stream
        self._pool = pool
        self._outcomes = outcomes
        self._draw = random.Random(stream.seed)
        self._next = self._draw.randrange(len(stream.requests))

    async def send(self, begin: float) -> None:
        """Send from a time on, and wait for what was sent."""
        await asyncio.sleep(begin - time.monotonic())
        async with asyncio.TaskGroup() as group:
            if self._stream.clients:
                for _ in range(self._stream.clients):
                    group.create_task(self._client(begin + self._stream.seconds))
                return
            stream = self._stream
            for due in arrivals(stream.rate, stream.seconds, stream.seed, evenly=stream.evenly):
                await _until(begin + due)
                group.create_task(self._ask(begin + due))

    async def _client(self, end: float) -> None:
        while (now := time.monotonic()) < end:
            if await self._ask(now) == NO_ANSWER:
                await asyncio.sleep(0.01)  # a server that refuses would be asked in a tight loop

    async def _ask(self, due: float) -> int:
        stream = self._stream
        index = self._next
        self._next = (index + 1) % len(stream.requests)
        request, sent = stream.requests[index], time.monotonic()
        status, head, body = NO_ANSWER, b"", b""
        try:
            if stream.hang_up is None:
                status, head, body = await self._pool.ask(request, stream.timeout)
            else:
                # half of them before the request is complete
                part = request[: len(request) // self._draw.choice((1, 2))]
                await self._pool.hang_up(part, self._draw.uniform(0, stream.hang_up))
                status = HUNG_UP
        except (OSError, TimeoutError) as error:
            body = (str(error) or type(error).__name__).encode()
        head = b"" if status == 200 else head  # kept for Retry-After, and hundreds of bytes
        self._outcomes.append(
            Outcome(stream.name, index, due, sent, time.monotonic(), status, head, body)
        )
        return status


async def _until(due: float) -> None:
    """Sleep until a time, never less: libuv's timers round to milliseconds, up or down."""
    await asyncio.sleep(0)  # also when late: answers must be read between sends
    while (left := due - time.monotonic()) > 0:
        await asyncio.sleep(max(left, 0.001))
