"""Two servers with the same weights, asked turn by turn: one is paused while the other answers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import Record
from benchmarks.serving import check, nets, servers
from benchmarks.serving.figures import figures
from benchmarks.serving.load import Run, Stream, run
from benchmarks.serving.questions import Question, ask, encoded
from benchmarks.serving.servers import Server
from benchmarks.serving.setting import Setting

_SETTLE = 1.0  # seconds of a round before it counts: the first answers come all at once


@dataclass(frozen=True, slots=True)
class Place:
    """Where things lie.

    Attributes:
        models: the demo models' folder.
        peers: the Python that has LitServe.
    """

    models: Path
    peers: Path


@dataclass(frozen=True, slots=True)
class Stage:
    """Both servers, and what they are asked; LitServe is paused until its turn."""

    ours: Server
    theirs: Server
    questions: tuple[Question, ...]
    library: check.Library
    net: nets.Net


@contextlib.contextmanager
def stage(name: str, place: Place, setting: Setting) -> Iterator[Stage]:
    """Start both servers with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        nets.publish(name, place.models, root)
        questions, library = ask(name, nets.rows(name)), check.Library(root)
        net = nets.build(name, place.models)
        with litserve(name, place, setting) as theirs, servers.mcdrop_server(root) as ours:
            theirs.pause()
            yield Stage(ours, theirs, questions, library, net)


def litserve(
    name: str, place: Place, setting: Setting
) -> contextlib.AbstractContextManager[Server]:
    """LitServe with a model and a setting."""
    models = str(place.models.resolve())
    arguments = ["--net", name, "--models", models, "--setting", setting.to_json()]
    return servers.litserve_server(place.peers, arguments)


def turn(server: Server, questions: tuple[Question, ...], clients: int, seconds: float) -> Run:
    """A closed loop of so many clients against a server that is paused before and after."""
    server.resume()
    requests = encoded(questions, server.path)
    stream = Stream("closed", server.port, requests, _SETTLE + seconds, clients=clients)
    try:
        return run([stream])
    finally:
        server.pause()


def within(one: Run, seconds: float) -> Record:
    """The figures of a turn, once it has settled."""
    begin = one.start + _SETTLE
    numbers = figures(one.outcomes, begin, begin + seconds, closed=True)
    return numbers | {"load_cpu_s": round(one.cpu_s, 3)}
