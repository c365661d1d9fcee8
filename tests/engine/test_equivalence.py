"""One seed, one answer: whatever the engine, the chunks and the rows beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mcdrop
from mcdrop.engine import Plan, Planner, Way
from tests import zoo

SAMPLES = 6
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_engines_agree_for_a_seed(name: str, masks: str) -> None:
    module, inputs = zoo.build(name)
    loop, batched = (
        mcdrop.MCDropout(zoo.program(name), task="regression", masks=masks, engine=engine)
        for engine in ("loop", "batched")
    )
    eager = mcdrop.MCDropout(module, inputs, task="regression", masks=masks, engine="eager")
    oracle = loop.sample(inputs, samples=SAMPLES, seed=5)
    _close(batched.sample(inputs, samples=SAMPLES, seed=5), oracle)
    if name != "folded_heads" and name != "time_major":  # eager takes rows to vary slowest
        _close(eager.sample(inputs, samples=SAMPLES, seed=5), oracle)
    _close(batched.deterministic(inputs), eager.deterministic(inputs))


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("name", zoo.NAMES)
def test_rows_do_not_see_each_other(name: str, masks: str) -> None:
    _, inputs = zoo.build(name)
    mc = mcdrop.MCDropout(zoo.program(name), task="regression", masks=masks)
    together = mc.sample(inputs, samples=SAMPLES, seed=5)
    first = _rows(inputs, slice(0, 1))
    _close(mc.sample(first, samples=SAMPLES, seed=5), together[:, :1])
    last = _rows(inputs, slice(2, 3))
    _close(mc.sample(last, samples=SAMPLES, seed=5, first_row=2), together[:, 2:])


@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_chunks_do_not_change_the_answer(masks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = zoo.build("transformer")
    mc = mcdrop.MCDropout(module, inputs, task="regression", masks=masks)
    whole = mc.sample(inputs, samples=7, seed=3)
    summary = mc.predict(inputs, samples=7, seed=3)
    for rows, samples in ((1, 1), (2, 4), (3, 2)):
        plan = Plan(rows, Way("batched", samples), Way("batched", samples))
        monkeypatch.setattr(Planner, "plan", lambda *_, plan=plan: plan)
        _close(mc.sample(inputs, samples=7, seed=3), whole)
        chunked = mc.predict(inputs, samples=7, seed=3)
        for name, value in summary.fields().items():
            torch.testing.assert_close(chunked.fields()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_no_operation_falls_back_to_a_loop_under_vmap(name: str) -> None:
    _, inputs = zoo.build(name)
    mc = mcdrop.MCDropout(zoo.program(name), task="regression")
    torch._C._functorch._set_vmap_fallback_enabled(False)
    try:
        mc.sample(inputs, samples=3)
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(True)


def test_a_small_budget_makes_small_chunks() -> None:
    module, inputs = zoo.build("transformer")
    small = mcdrop.MCDropout(module, inputs, task="regression", memory_budget=20_000)
    large = mcdrop.MCDropout(module, inputs, task="regression")
    x = torch.randn(64, 5, 8)
    _close(small.sample(x, samples=4, seed=1), large.sample(x, samples=4, seed=1))
    assert small.plan.rows < 64
    assert large.plan.rows == 64


def test_seeds_differ_and_samples_differ() -> None:
    module, inputs = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, inputs, task="regression")
    a, b = mc.sample(inputs, samples=8, seed=1), mc.sample(inputs, samples=8, seed=2)
    assert not torch.allclose(a, b)
    assert not torch.allclose(a[0], a[1])
    _close(mc.sample(inputs, samples=3, seed=1), a[:3])


def test_shared_masks_are_function_draws() -> None:
    """Equal rows get equal answers under shared masks, different ones under independent masks."""
    module, _ = zoo.build("dropout")
    x = torch.ones(4, 6)
    shared = mcdrop.MCDropout(module, x, task="regression")
    independent = mcdrop.MCDropout(module, x, task="regression", masks="independent")
    same = shared.sample(x, samples=5)
    assert torch.allclose(same[:, 0], same[:, 3])
    other = independent.sample(x, samples=5)
    assert not torch.allclose(other[:, 0], other[:, 3])


def test_bfloat16_models_keep_their_type() -> None:
    module, inputs = zoo.build("transformer")
    mc = mcdrop.MCDropout(module.bfloat16(), inputs.bfloat16(), task="regression")
    out = mc.sample(inputs.bfloat16(), samples=3)
    assert out.dtype == torch.bfloat16
    assert mc.predict(inputs.bfloat16(), samples=8).mean.dtype == torch.float32


def _rows(inputs: object, rows: slice) -> object:
    if isinstance(inputs, dict):
        return {name: tensor[rows] for name, tensor in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(tensor[rows] for tensor in inputs)
    assert isinstance(inputs, Tensor)
    return inputs[rows]
