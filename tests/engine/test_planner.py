"""The planner: what it chooses, how it explains itself, and what it does without memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine import BatchedEngine, Plan, Planner, Way
from mcdrop.engine.batched import BatchedRun
from mcdrop.engine.parts import Parts
from mcdrop.engine.trials import Trials
from mcdrop.program.packing import can_pack
from mcdrop.sampling import MaskBank


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.Tanh(),
        nn.Dropout(0.5), nn.Linear(64, 3),
    ).eval()  # fmt: skip


def test_the_plan_is_of_the_fastest_that_was_measured(net: nn.Sequential) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression")
    mc.predict(torch.randn(30, 8), samples=64)
    plan = mc.plan
    assert plan.rows == 32, "plans are kept by powers of two"
    kept = [t for t in plan.trials if not t.fresh]
    chosen = next(t for t in kept if t.way == plan.kept)
    assert chosen.seconds <= min(t.seconds for t in kept) / 0.9**3, "a tenth at each comparison"
    assert plan.engine == mc.engine
    assert {"batched", "thinned"} <= {t.way.engine for t in kept}
    assert all(t.seconds > 0 for t in plan.trials)


def test_a_shape_is_measured_once(net: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression")
    made = []
    original = Planner._make
    monkeypatch.setattr(Planner, "_make", lambda *a: made.append(1) or original(*a))
    for rows in (5, 6, 8, 7):
        mc.predict(torch.randn(rows, 8), samples=64)
    assert len(made) == 1
    mc.predict(torch.randn(9, 8), samples=64)
    assert len(made) == 2


def test_the_plan_prints_what_runs_where_and_why(net: nn.Sequential) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression")
    mc.predict(torch.randn(4, 8), samples=32)
    text = str(mc.plan)
    for part in ("4 rows", "at a time", "trunk: 2 of", "'2'", "'5'", "thinned", "ms a sample"):
        assert part in text, text


def test_before_any_prediction_the_plan_is_of_one_row(net: nn.Sequential) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression")
    assert mc.plan.rows == 1


def test_a_forced_engine_is_used(net: nn.Sequential) -> None:
    x = torch.randn(4, 8)
    for engine in ("loop", "batched", "thinned", *["packed"] * can_pack()):
        mc = mcdrop.MCDropout(net, x, task="regression", engine=engine)
        mc.predict(x, samples=32)
        assert mc.engine == mc.plan.engine == engine
        assert {t.way.engine for t in mc.plan.trials} <= {engine}


def test_thinning_that_is_impossible_is_refused_with_the_reason() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    with pytest.raises(mcdrop.InputError, match=r"finds no site to thin: site '1': .*auto"):
        mcdrop.MCDropout(net, torch.randn(2, 8), task="regression", engine="thinned")
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    with pytest.raises(mcdrop.InputError, match="a mask of its own"):
        mcdrop.MCDropout(
            net, torch.randn(2, 8), task="regression", engine="thinned", masks="independent"
        )


def test_nothing_is_tried_for_what_is_not_sampled(
    net: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(4, 8)
    mc = mcdrop.MCDropout(net, x, task="regression")
    mc.predict(x, samples=64)
    plan = mc.plan
    head = mcdrop.MCDropout(net[3:], torch.randn(4, 64), task="regression", analytic_head=True)

    def refused(*_: object) -> Plan:
        raise AssertionError("planned")

    monkeypatch.setattr(Planner, "_make", refused)
    mc.deterministic(torch.randn(11, 8))
    assert mc.plan is plan, "the plan is that of the sampled rows"
    assert head.predict(torch.randn(5, 64)).samples.tolist() == [0] * 5


def test_a_chunk_costs_something_however_small_it_is() -> None:
    """Or two chunks of a small net would seem as good as one."""

    class Nothing:
        def compute(self, chunk: range, engine: str) -> tuple[Tensor, ...]:
            return ()

    trials = Trials(Nothing(), torch.device("cpu"), 128)  # type: ignore[arg-type]
    small, large = (trials.run(Way("batched", samples)) for samples in (32, 128))
    assert small.seconds is not None
    assert large.seconds is not None
    assert 3.0 < small.seconds / large.seconds < 5.0


def test_the_eager_engine_has_no_plan(net: nn.Sequential) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression", engine="eager")
    with pytest.raises(mcdrop.InputError, match="eager"):
        _ = mc.plan


class _Cramped(BatchedEngine):
    """Fails as torch does where rows times samples do not fit."""

    limit = 1 << 30
    tried: list[tuple[int, int]]

    def open(self, inputs: Mapping[str, Tensor], bank: MaskBank, rows: Sequence[int]):
        run, engine = super().open(inputs, bank, rows), self

        class Run(BatchedRun):
            def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
                engine.tried.append((len(rows), stop - start))
                if len(rows) * (stop - start) > engine.limit:
                    raise torch.OutOfMemoryError("CUDA out of memory (in a test)")
                return run.samples(start, stop)

        return Run(run.tail, run.boundary, run.bank, run.rows)


@pytest.mark.parametrize("limit", [200, 40, 16, 5, 1])
def test_chunks_that_do_not_fit_are_halved_and_nothing_is_lost(
    net: nn.Sequential, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(16, 8)
    expected = mcdrop.MCDropout(net, x, task="regression").predict(x, samples=50)
    monkeypatch.setattr("mcdrop.engine.choice.BatchedEngine", _Cramped)
    _Cramped.tried = []
    mc = mcdrop.MCDropout(net, x, task="regression", engine="batched")
    mc.predict(x, samples=50)  # plans, when all still fits
    monkeypatch.setattr(_Cramped, "limit", limit)
    got = mc.predict(x, samples=50)
    for name, value in expected.fields().items():
        torch.testing.assert_close(got.fields()[name], value, rtol=1e-4, atol=1e-5)
    _Cramped.tried.clear()
    mc.predict(x, samples=50)
    assert all(rows * samples <= max(limit, 1) for rows, samples in _Cramped.tried), (
        "the smaller chunk is remembered"
    )


def test_masks_that_do_not_fit_are_made_for_smaller_chunks(
    net: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy makes masks, and says MemoryError."""
    x = torch.randn(16, 8)
    mc = mcdrop.MCDropout(net, x, task="regression", masks="independent")
    expected = mc.predict(x, samples=64)
    draw = MaskBank.draw

    def cramped(self: MaskBank, samples: range, rows: Sequence[int]) -> list[Tensor]:
        if len(samples) * len(rows) > 100:
            raise MemoryError
        return draw(self, samples, rows)

    monkeypatch.setattr(MaskBank, "draw", cramped)
    torch.testing.assert_close(mc.predict(x, samples=64).mean, expected.mean)


@pytest.mark.parametrize("engine", ["auto", "thinned"])
@pytest.mark.parametrize("budget", [1 << 20, 8 << 20])
def test_what_is_gathered_stays_within_the_budget(
    engine: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 256), nn.ReLU(), nn.Dropout(0.5)]
    layers += [nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 3)]
    x, sizes = torch.randn(4, 8), []
    make = Parts.make

    def watched(self: Parts, *args: object):
        values = make(self, *args)
        sizes.append(sum(value.nbytes for value in values.values()))
        return values

    monkeypatch.setattr(Parts, "make", watched)
    net = nn.Sequential(*layers).eval()
    mc = mcdrop.MCDropout(net, x, task="regression", engine=engine, memory_budget=budget)
    mc.predict(x, samples=200)
    assert sizes
    assert max(sizes) <= budget


def test_making_masks_counts_as_memory() -> None:
    """Levels of 16 samples are many times the noise of one."""

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    x = torch.randn(64, 2000)
    mc = mcdrop.MCDropout(
        Noisy(), x, task="regression", masks="independent", memory_budget=16 << 20
    )
    tracemalloc.start()
    try:
        mc.predict(x, samples=64)
        peak = tracemalloc.get_traced_memory()[1]  # NumPy's; torch's is not seen
    finally:
        tracemalloc.stop()
    assert 1 << 20 < peak < 16 << 20


def test_the_plan_shown_is_the_one_used_last(net: nn.Sequential) -> None:
    mc = mcdrop.MCDropout(net, torch.randn(4, 8), task="regression", engine="batched")
    for rows in (1, 6, 1):
        mc.predict(torch.randn(rows, 8), samples=16)
    assert mc.plan.rows == 1


def test_one_row_and_sample_that_do_not_fit_are_an_error(
    net: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcdrop.engine.choice.BatchedEngine", _Cramped)
    _Cramped.tried = []
    mc = mcdrop.MCDropout(net, torch.randn(2, 8), task="regression", engine="batched")
    mc.predict(torch.randn(2, 8), samples=4)
    monkeypatch.setattr(_Cramped, "limit", 0)
    with pytest.raises(torch.OutOfMemoryError):
        mc.predict(torch.randn(2, 8), samples=4)


_STARVED = """
import resource, torch, mcdrop
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(256, 2048), nn.Tanh(), nn.Dropout(0.5), nn.Linear(2048, 4))
x = torch.randn(2048, 256)
mc = mcdrop.MCDropout(net, x[:4], task="regression", engine="batched", memory_budget=1 << 40)
small = mc.predict(x[:8], samples=64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)
big = mc.predict(x, samples=64)
assert torch.allclose(big.mean[:8], small.mean, rtol=1e-4, atol=1e-5)
print(mc.plan.rows * mc.plan.kept.samples * 2048 * 4 >> 20, "MiB")
"""


@pytest.mark.slow
def test_a_cpu_that_is_out_of_memory_computes_smaller_chunks() -> None:
    """2,048 rows × 64 samples of 2,048 units would take 1 GiB and more; 600 MiB are left."""
    done = subprocess.run(
        [sys.executable, "-c", _STARVED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[0]) < 600


def test_new_seeds_do_not_push_out_one_that_comes_again_and_again(net: nn.Sequential) -> None:
    x = torch.randn(8, 8)
    mc = mcdrop.MCDropout(net, x, task="regression")
    plan = Plan(8, Way("thinned", 16), Way("batched", 32))
    mc._opened.source.plan = lambda *_: plan
    mc.predict(x, seed=0)
    for seed in range(1, 10):
        assert mc._opened.source.open(plan, {"input": x}, 0, range(8))._repeated
        assert not mc._opened.source.open(plan, {"input": x}, seed, range(8))._repeated


def test_seeds_alternate_between_ways_with_one_answer(net: nn.Sequential) -> None:
    """A seed seen for the first time may be computed otherwise than a repeated one."""
    x = torch.randn(8, 8)
    mc = mcdrop.MCDropout(net, x, task="regression")
    plan = Plan(8, Way("thinned", 16), Way("batched", 32))
    mc._opened.source.plan = lambda *_: plan
    once, again = (mc.sample(x, samples=200, seed=7) for _ in range(2))
    loop = mcdrop.MCDropout(net, x, task="regression", engine="loop").sample(x, samples=200, seed=7)
    torch.testing.assert_close(once, loop, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again, loop, rtol=1e-5, atol=1e-6)
