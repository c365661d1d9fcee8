"""Soak: minutes of everything at once, then an orderly stop."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.record import Record
from benchmarks.serving import abuse, check, nets, servers
from benchmarks.serving.figures import percentiles, statuses
from benchmarks.serving.load import NO_ANSWER, Outcome, Run, Stream, run, start
from benchmarks.serving.questions import Question, encoded
from benchmarks.serving.reload import Reload
from benchmarks.serving.servers import Scale, Server
from benchmarks.serving.stage import Place

SLOPE = 1.0  # MiB a minute that memory may grow by, beyond two standard errors of the slope
_QUESTIONS = 240
_LARGE = 2000  # samples of the requests that take long
_DRAIN = 3.0  # seconds of the load that is cut by SIGTERM in its middle


def measure(
    place: Place, *, minutes: float, reload_every: float = 0.0, rate: float = 12.0, seed: int = 0
) -> Record:
    """Valid, bad and abandoned requests, killed clients, reloads if wished; ends with SIGTERM."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "models"
        spare = _publish(place, root, Path(folder))
        questions = mixture(place, seed)
        watch = {"MCDROP_WATCH_SECONDS": "1"} if reload_every else {}
        with servers.mcdrop_server(root, watch) as server:
            large = tuple(Question(q.model, q.row, _LARGE) for q in questions[:32])
            streams = _streams(server.port, questions, large, minutes * 60, rate)
            with (
                Reload(spare, root / "small" / "2", reload_every) as reload,
                Killer(server.port, encoded(questions[:32]), seed) as killer,
                Scale(server, every=1.0) as scale,
            ):
                loaded = run(streams)
            drained, stopped_at, code = _drain(server, questions)
            log = server.log.read_text(errors="replace")
        library = _library(root, spare)
        valid = [*loaded.of("valid"), *drained.outcomes]
        wrong = check.wrong(valid, questions, library)
        wrong += check.wrong(loaded.of("large"), large, library)
    record = {
        "workload": "mixture",
        "minutes": minutes,
        "rate": rate,
        "reloads": reload.changes,
        "killed": killer.killed,
        "valid": statuses([*loaded.of("valid"), *loaded.of("large")]),
        "answered_by": _versions(loaded.of("valid")),
        "bad": statuses(loaded.of("bad")),
        "hung_up": len(loaded.of("gone")),
        "latency": percentiles([o.done - o.due for o in loaded.of("valid") if o.status == 200]),
        "memory": growth(scale.times, scale.bytes),
        "drain": statuses(drained.outcomes),
        "cut_off": _cut_off(drained.outcomes, stopped_at),
        "exit_code": code,
        "tracebacks": log.count("Traceback (most recent call last)"),
        "checked": sum(o.status == 200 for o in (*valid, *loaded.of("large"))),
        "wrong": len(wrong),
        "reasons": sorted({bad.reason for bad in wrong})[:5],
    }
    return record | {"failures": _failures(record)}


def mixture(place: Place, seed: int) -> tuple[Question, ...]:
    """Questions to several models, with several seeds, samples and tolerances."""
    draw = random.Random(seed)
    rows = {name: nets.rows(name, 64) for name in (*nets.NAMES, "small")}
    if (place.models / "diabetes").is_dir():
        rows["diabetes"] = nets.rows("diabetes", 64)
    found = []
    for _ in range(_QUESTIONS):
        model = draw.choice(list(rows))
        # a tolerance in units of the output: probabilities, or disease progression
        tolerances = (2.0, 5.0) if model == "diabetes" else (0.01, 0.05)
        found.append(
            Question(
                model,
                draw.choice(rows[model]),
                samples=draw.choice((None, None, 16, 64, 200, 1000)),
                seed=draw.choice((None, None, 0, 1, 2**40)),
                tolerance=draw.choice((None, None, *tolerances)),
            )
        )
    return tuple(found)


def growth(times: Sequence[float], sizes: Sequence[int]) -> Record:
    """Memory over time: its slope over the second half, by least squares, with its error.

    The first half fills the caches, which are bounded.
    """
    minutes = (np.array(times) - times[0]) / 60
    mebi = np.array(sizes) / 2**20
    half = minutes >= minutes[-1] / 2
    x, y = minutes[half] - minutes[half].mean(), mebi[half]
    spread = float((x**2).sum())
    slope = float((x * y).sum() / spread) if spread else 0.0
    left = y - y.mean() - slope * x
    error = float(np.sqrt((left**2).sum() / max(len(x) - 2, 1) / spread)) if spread else 0.0
    return {
        "first_mib": round(float(mebi[0]), 1),
        "half_mib": round(float(y[0]), 1),
        "last_mib": round(float(mebi[-1]), 1),
        "peak_mib": round(float(mebi.max()), 1),
        "slope_mib_per_minute": slope,
        "slope_error": error,
        "times_s": [round(value * 60, 1) for value in minutes[::10].tolist()],
        "rss_mib": [round(value, 1) for value in mebi[::10].tolist()],
    }


@dataclass(slots=True)
class Killer:
    """Starts clients and kills their process in the middle of what they ask, again and again."""

    port: int
    requests: tuple[bytes, ...]
    seed: int
    every: float = 10.0
    killed: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._kill, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _kill(self) -> None:
        draw = random.Random(self.seed)
        while not self._done.wait(self.every):
            process = start([Stream("killed", self.port, self.requests, 60.0, clients=4)])
            time.sleep(draw.uniform(0.5, 2.0))
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
            self.killed += 1


def _publish(place: Place, root: Path, folder: Path) -> Path:
    """The models folder, and a second version of `small` beside it; returns the latter."""
    for name in (*nets.NAMES, "diabetes"):
        if name == "mlp" or (place.models / name).is_dir():
            nets.publish(name, place.models, root)
    nets.save(nets.mlp(width=32, seed=1), root / "small" / "1")
    spare = folder / "spare" / "small" / "2"
    nets.save(nets.mlp(width=32, seed=2), spare)
    return spare


def _library(root: Path, spare: Path) -> check.Library:
    """With both versions of `small`, whichever is in the models folder at the end."""
    target = root / "small" / "2"
    if not target.exists():
        Reload(spare, target, 0.0).add()
    return check.Library(root)


def _streams(
    port: int,
    questions: tuple[Question, ...],
    large: tuple[Question, ...],
    seconds: float,
    rate: float,
) -> list[Stream]:
    valid, slow = encoded(questions), encoded(large)
    bad = abuse.encoded(abuse.abuses(width=64), "small")
    return [
        Stream("valid", port, valid, seconds, rate=rate),
        Stream("large", port, slow, seconds, rate=rate / 40, seed=1),
        Stream("bad", port, bad, seconds, rate=rate / 4, seed=2),
        Stream("gone", port, valid + slow, seconds, rate=rate / 4, seed=3, hang_up=0.05),
    ]


def _drain(server: Server, questions: tuple[Question, ...]) -> tuple[Run, float, int]:
    """Stop the server while it is asked: what its callers hear, when it was told, its code."""
    told: list[float] = []

    def stop() -> None:
        time.sleep(_DRAIN / 2)
        told.append(time.monotonic())
        server.process.terminate()

    thread = threading.Thread(target=stop)
    thread.start()
    stream = Stream("drain", server.port, encoded(questions), _DRAIN, clients=4)
    drained = run([stream])
    thread.join()
    return drained, told[0], server.process.wait(60)


def _cut_off(outcomes: Sequence[Outcome], told: float) -> int:
    """Requests that were under way when the server was told to stop, and got no answer."""
    return sum(o.status == NO_ANSWER and o.sent < told - 0.01 for o in outcomes)


def _versions(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Answers of `small` by the version that gave them."""
    small = [o.body for o in outcomes if o.status == 200 and b'"model":"small"' in o.body]
    return {str(n): sum(b'"version":%d,' % n in body for body in small) for n in (1, 2)}


def _failures(record: Record) -> list[str]:
    """What an operator would not accept."""
    allowed = {200, 503, 429}
    memory = record["memory"]
    slope = memory["slope_mib_per_minute"] - 2 * memory["slope_error"]
    odd = {int(status) for status in record["valid"]} - allowed
    bad = {int(status) for status in record["bad"]} - abuse.REFUSED - {429, 503}
    late = {int(status) for status in record["drain"]} - allowed - {NO_ANSWER}
    unseen = record["reloads"] > 1 and not record["answered_by"]["2"]
    said = {
        "no answer came of the version that was copied in": unseen,
        f"valid requests got {sorted(odd)}": bool(odd),
        f"bad requests got {sorted(bad)}": bool(bad),
        f"while stopping, requests got {sorted(late)}": bool(late),
        f"{record['cut_off']} requests under way were cut off by the stop": bool(record["cut_off"]),
        f"{record['wrong']} wrong answers": bool(record["wrong"]),
        f"memory grows by {slope:.2f} MiB a minute, more than {SLOPE:g}": slope > SLOPE,
        f"exit code {record['exit_code']}": record["exit_code"] != 0,
        f"{record['tracebacks']} tracebacks in the log": bool(record["tracebacks"]),
    }
    return [text for text, failed in said.items() if failed]
