"""The page on training: every block is executed, and the table names every schedule."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mcdrop import Monitor, schedules
from tests.docs.blocks import ROOT, block_of, blocks_of
from tests.monitor.trainer import Base, Trainer

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
STARTS = ("import torch", "from torch import nn", "import lightning")


def test_every_block_is_executed() -> None:
    for block in blocks_of(PAGE):
        assert sum(block.text.startswith(start) for start in STARTS) == 1, block.text


def test_the_loop_trains_and_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block_of(PAGE, STARTS[0]), names)
    monitor = names["monitor"]
    assert isinstance(monitor, Monitor)
    first, last = monitor.history.epochs[0], monitor.history.epochs[-1]
    assert last.values["validation_loss"] < 0.6 < first.values["validation_loss"]
    assert (first.rates["2"], round(last.rates["2"], 3)) == (0.0, 0.3)
    assert first.rates["3"] != last.rates["3"]
    assert last.calibration["accuracy"] > 0.75
    assert Path("runs/training.png").stat().st_size > 10_000
    assert json.loads(Path("runs/training.json").read_text())["format"] == "mcdrop.monitor/1"


def test_the_names_are_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    block = block_of(PAGE, STARTS[1])
    exec(block, {})
    shown = re.findall(r"print\(schedule.names\)  # (.*)", block)
    assert capsys.readouterr().out.splitlines() == shown


def test_the_callback_is_one_that_a_trainer_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Trainer] = []

    def trainer(max_epochs: int, callbacks: list[object]) -> Trainer:
        (callback,) = callbacks
        made.append(Trainer(callback, train=lambda _: {"loss": 1.0}, validation=lambda _: {}))
        made[0].fit(max_epochs)
        return made[0]

    stand_in = ModuleType("lightning")
    vars(stand_in).update(Callback=Base, Trainer=trainer)
    monkeypatch.setitem(sys.modules, "lightning", stand_in)
    names: dict[str, object] = {}
    exec(block_of(PAGE, STARTS[2]), names)
    monitor = names["monitor"]
    assert isinstance(monitor, Monitor)
    assert [each.epoch for each in monitor.history.epochs] == [0, 1, 2]


def test_the_table_names_every_schedule() -> None:
    named = set(re.findall(r"^\| `(\w+Rate)\(", PAGE, re.MULTILINE))
    assert named == {name for name in schedules.__all__ if name.endswith("Rate")} - {"Rate"}
