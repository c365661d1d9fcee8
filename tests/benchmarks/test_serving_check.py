"""Checking answers, and real servers under load: right ones pass, wrong and swapped ones do not."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serving import abuse, check, load, nets, servers, tuning
from benchmarks.serving.load import Outcome, Stream
from benchmarks.serving.questions import Question, ask, encoded
from benchmarks.serving.reload import Reload
from benchmarks.serving.setting import Setting


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    nets.save(nets.mlp(width=32), root / "small" / "1")
    nets.save(nets.mlp(width=32, seed=9), root / "small" / "2")
    return root


@pytest.fixture(scope="module")
def library(repository: Path) -> check.Library:
    return check.Library(repository)


def _outcome(number: int, body: bytes) -> Outcome:
    return Outcome("s", number, 0.0, 0.0, 0.01, 200, b"", body)


def _answers(questions, library, **changes) -> list[Outcome]:
    """What a server that is right would say."""
    outcomes = []
    for number, question in enumerate(questions):
        mean = library.mean(question)[None].tolist()
        answer = {"model": "small", "version": 1, "samples": [32], "outputs": {"mean": mean}}
        body = json.dumps(answer | changes).encode()
        outcomes.append(_outcome(number, body))
    return outcomes


def test_right_answers_pass_and_every_wrong_one_is_caught(library: check.Library) -> None:
    questions = ask("small", nets.rows("mlp", 16), samples=32)
    right = _answers(questions, library)
    assert check.wrong(right, questions, library) == []

    answer = json.loads(right[3].body)
    answer["outputs"]["mean"][0][2] += 3e-5
    off = right[3]._replace(body=json.dumps(answer).encode())
    found = check.wrong([*right[:3], off, *right[4:]], questions, library)
    assert [bad.outcome for bad in found] == [off]
    assert "times the bound" in found[0].reason

    for body in (b"", b"{}", b"[]", b'{"outputs": {}}', right[3].body[:-20]):
        broken = right[3]._replace(body=body)
        assert len(check.wrong([broken], questions, library)) == 1
    refused = right[3]._replace(status=429, body=b"")
    assert check.wrong([refused], questions, library) == []


def test_answers_that_are_swapped_between_rows_are_caught(library: check.Library) -> None:
    questions = ask("small", nets.rows("mlp", 16), samples=32)
    assert check.closest(questions, library) > 2 * check.BOUND
    right = _answers(questions, library)
    swapped = [
        right[0]._replace(body=right[1].body),
        right[1]._replace(body=right[0].body),
        *right[2:],
    ]
    found = check.wrong(swapped, questions, library)
    assert [bad.outcome.number for bad in found] == [0, 1]


def test_answers_of_another_version_seed_or_count_are_caught(library: check.Library) -> None:
    plain = ask("small", nets.rows("mlp", 4), samples=32)
    as_second = _answers(plain, library, version=2)
    assert len(check.wrong(as_second, plain, library)) == 4
    assert len(check.wrong(_answers(plain, library, model="other"), plain, library)) == 4
    for other in (
        ask("small", nets.rows("mlp", 4), 32, seed=5),
        ask("small", nets.rows("mlp", 4), 48),
    ):
        assert len(check.wrong(_answers(plain, library), other, library)) == 4


def test_another_sampler_is_judged_by_its_standard_error(library: check.Library) -> None:
    """Independent samples are off by 1 standard error; half of the samples by √2; bias by more."""
    questions = ask("small", nets.rows("mlp", 32))
    outcomes = []
    for seed in range(8):
        for number, question in enumerate(questions):
            body = json.dumps({"outputs": {"mean": _iid_mean(question.row, 100, seed)}})
            outcomes.append(_outcome(number, body.encode()))
    rms = check.deviation(outcomes, questions, library, 100)["rms_standard_errors"]
    assert 0.9 < rms < 1.1
    assert 1.3 < check.deviation(outcomes, questions, library, 200)["rms_standard_errors"] < 1.55


def _iid_mean(row, samples: int, seed: int):
    """The naive way, in torch alone."""
    import torch

    net = nets.mlp(width=32).module
    for layer in net:
        if isinstance(layer, torch.nn.Dropout):
            layer.train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed * 1000 + int(abs(row[0]) * 1e4))
        repeated = torch.tensor([row]).expand(samples, -1)
        return net(repeated).softmax(-1).mean(0, keepdim=True).tolist()


# --- servers and scenarios


@pytest.mark.slow
def test_a_real_server_is_loaded_checked_weighed_and_stopped(
    repository: Path, library: check.Library
) -> None:
    questions = tuple(
        Question("small", row, samples, seed, tolerance)
        for row, samples, seed, tolerance in zip(
            nets.rows("mlp", 12),
            [None, 16, 64, 200] * 3,
            [None, 3, 2**40] * 4,
            [None, 0.05] * 6,
            strict=True,
        )
    )
    bad = abuse.abuses(64)
    with servers.mcdrop_server(repository) as server:
        versioned = [q.encode("/v1/models/small/versions/1/predict") for q in questions]
        streams = [
            Stream("valid", server.port, tuple(versioned), 2.0, clients=4),
            Stream("newest", server.port, encoded(questions), 2.0, rate=5),
            Stream("bad", server.port, abuse.encoded(bad, "small"), len(bad) / 20, 0, 20, True),
            Stream("gone", server.port, encoded(questions), 2.0, rate=10, hang_up=0.05),
        ]
        with servers.Scale(server, every=0.2) as scale:
            run = load.run(streams)
        server.pause()
        held = load.run([replace(streams[0], seconds=0.3, timeout=0.5)])
        server.resume()
        assert load.run([replace(streams[0], seconds=0.3)]).outcomes[0].status == 200
        assert server.terminate() == 0
    assert {o.status for o in run.of("valid")} == {o.status for o in run.of("newest")} == {200}
    assert check.wrong(run.of("valid"), questions, library) == []
    assert check.wrong(run.of("newest"), questions, library) == []
    assert {json.loads(o.body)["version"] for o in run.of("newest")} == {2}
    for outcome in run.of("bad"):
        assert outcome.status in abuse.REFUSED, bad[outcome.number].what
    assert {o.number for o in run.of("bad")} == set(range(len(bad)))
    assert {o.status for o in held.outcomes} == {load.NO_ANSWER}
    assert min(scale.bytes) > 50 * 2**20


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"did not become ready(.|\n)*holds no"),
        servers.mcdrop_server(tmp_path),
    ):
        pass


def test_a_version_comes_and_goes_whole(repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "small").mkdir(parents=True)
    target = models / "small" / "2"
    with Reload(repository / "small" / "2", target, 0.05) as reload:
        seen = set()
        deadline = time.monotonic() + 20
        while (reload.changes < 6 or len(seen) < 2) and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                seen.add(len(list(target.iterdir())))
            seen |= set() if target.exists() else {0}
    whole = len(list((repository / "small" / "2").iterdir()))
    assert seen <= {0, whole}
    assert whole in seen
    assert reload.changes >= 6
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_litserves_setting_travels_by_its_command_line() -> None:
    setting = Setting(way="loop", batch_timeout=0.002, fast_queue=True)
    assert Setting.from_json(setting.to_json()) == setting
    assert "loop" in str(setting)
    records = [{"kind": "serving_tune", "workload": "mlp", "best": json.loads(setting.to_json())}]
    assert tuning.best(records, "mlp") == setting
    assert tuning.best(records, "digits") == Setting()
