"""Artifacts read on one thread while another predicts, and what is left when a model goes."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch

import mcdrop
from mcdrop.loading import opened, read
from tests import zoo


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="classification")
    return mc.save(tmp_path_factory.mktemp("artifact") / "m", name="net")


def test_two_steps_are_one(artifact: Path) -> None:
    _, x = zoo.build("dropout")
    stored = read(artifact)
    apart, at_once = opened(stored, engine="loop"), mcdrop.load(artifact, engine="loop")
    assert stored.manifest == apart.manifest == at_once.manifest
    assert torch.equal(apart.sample(x, samples=3), at_once.sample(x, samples=3))


def test_weights_go_with_the_last_who_holds_them(artifact: Path) -> None:
    _, x = zoo.build("dropout")

    def use() -> list[weakref.ref[torch.Tensor]]:
        mc = mcdrop.load(artifact)
        mc.predict(x, samples=32)
        return [weakref.ref(weight) for weight in mc.program.weights.values()]

    use()  # torch keeps something of its first time
    gc.collect()
    gc.disable()  # which would come at some time, and hide a circle
    try:
        assert all(weight() is None for weight in use())
    finally:
        gc.enable()


def test_reading_beside_predictions_disturbs_neither(tmp_path: Path) -> None:
    names = ("dropout", "lstm", "transformer")
    folders, wanted, inputs = {}, {}, {}
    for name in names:
        _, inputs[name] = zoo.build(name)
        mc = mcdrop.MCDropout(zoo.program(name), task="regression", engine="loop")
        folders[name] = mc.save(tmp_path / name, name=name)
        wanted[name] = mc.predict(inputs[name], samples=16).mean
    stop, failures = threading.Event(), []

    def reading() -> None:
        while not stop.is_set():
            for folder in folders.values():
                try:
                    read(folder)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told below
                    failures.append(error)

    thread = threading.Thread(target=reading)
    thread.start()
    try:
        for _ in range(10):
            for name, folder in folders.items():
                found = mcdrop.load(folder).predict(inputs[name], samples=16).mean
                torch.testing.assert_close(found, wanted[name], rtol=1e-4, atol=1e-5)
    finally:
        stop.set()
        thread.join()
    assert not failures
