"""The packed engine against the loop, alone and with a team, and what it keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.engine import Team, ThinnedEngine
from mcdrop.engine.packed import PackedEngine, Packs
from mcdrop.engine.planner import Planner
from mcdrop.program.packing import can_pack, packed, packed_linear
from tests import thin_nets, zoo
from tests.engine.oracle import (
    BUDGET,
    assert_close,
    assert_keeps_seeds_apart,
    bank_of,
    by_loop,
    inputs_of,
    wide,
)
from tests.thin_nets import THINNED

pytestmark = pytest.mark.skipif(
    not can_pack(), reason="this build of torch, or this processor, has no packed products"
)


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    team = Team(3)
    yield team
    team.close()


def _engine(program: mcdrop.Program, budget: int = BUDGET) -> PackedEngine:
    return PackedEngine(program, ThinnedEngine(program, "shared", budget), budget)


def _packs(engine: PackedEngine) -> Packs:
    return engine._packs


@pytest.mark.parametrize("together", [False, True], ids=["alone", "with a team"])
@pytest.mark.parametrize("budget", [BUDGET, 0], ids=["kept", "made anew"])
@pytest.mark.parametrize("name", THINNED)
def test_equals_the_loop(name: str, budget: int, together: bool, team: Team) -> None:
    program = thin_nets.program(name)
    inputs = inputs_of(program, thin_nets.net(name).x)
    bank, engine = bank_of(program, inputs), _engine(program, budget)
    assert engine.obstacle is None
    engine.team = team if together else None
    oracle = by_loop(program, inputs, bank, range(35))
    run = engine.open(inputs, bank, range(5))
    for start, stop in ((0, 35), (0, 1), (3, 8), (15, 17), (34, 35)):
        assert_close(run.samples(start, stop), [output[start:stop] for output in oracle])
    for rows in (slice(0, 1), slice(2, 4)):  # requests share what is kept
        part = {key: value[rows] for key, value in inputs.items()}
        ours = engine.open(part, bank, range(5)[rows]).samples(0, 11)
        assert_close(ours, [output[:11, rows] for output in oracle])


@pytest.mark.parametrize("name", zoo.NAMES)
def test_equals_the_loop_on_the_zoo(name: str) -> None:
    program = zoo.program(name)
    engine = _engine(program)
    if engine.obstacle is not None:
        assert not ThinnedEngine(program, "shared", BUDGET).applies
        return
    inputs = inputs_of(program, zoo.build(name)[1])
    bank = bank_of(program, inputs)
    rows = len(next(iter(inputs.values())))
    ours = engine.open(inputs, bank, range(rows)).samples(0, 7)
    assert_close(ours, by_loop(program, inputs, bank, range(7)))


def test_samples_that_keep_no_unit_at_all() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Dropout(0.95), nn.Linear(20, 3)).eval()
    x = torch.randn(5, 4)
    program = mcdrop.capture(net, x)
    inputs = inputs_of(program, x)
    bank = bank_of(program, inputs, sampling="iid")
    (masks,) = bank.draw(range(32), (0,))
    assert (masks.flatten(1) != 0).sum(1).min() == 0
    ours = _engine(program).open(inputs, bank, range(5)).samples(0, 32)
    assert_close(ours, by_loop(program, inputs, bank, range(32)))


def test_seeds_and_samplings_are_kept_apart() -> None:
    program = thin_nets.program("chain")
    assert_keeps_seeds_apart(_engine(program), program, thin_nets.net("chain").x)


def test_memory_is_flat_in_the_number_of_samples_and_of_seeds() -> None:
    program, inputs = wide()
    engine = _engine(program)
    for seed in range(2):
        run = engine.open(inputs, bank_of(program, inputs, seed), range(2))
        run.samples(0, engine._thinned.kept_samples)
    size = _packs(engine).kept_bytes
    assert size > 0
    run.samples(engine._thinned.kept_samples, engine._thinned.kept_samples + 40)
    assert _packs(engine).kept_bytes == size
    engine.open(inputs, bank_of(program, inputs, 2), range(2)).samples(0, 16)
    assert _packs(engine).kept_bytes < size
    engine.forget()
    assert _packs(engine).kept_bytes == 0


def test_what_is_kept_stays_within_half_of_the_budget() -> None:
    program, inputs = wide()
    one = _engine(program)
    one.open(inputs, bank_of(program, inputs), range(2)).samples(0, 16)
    size = _packs(one).kept_bytes
    engine = _engine(program, 5 * size)
    for seed in (0, 1):
        run = engine.open(inputs, bank_of(program, inputs, seed), range(2))
        run.samples(0, 64)
        assert 1.5 * size < _packs(engine).kept_bytes <= 2.5 * size
    assert not engine.fits


def test_what_is_kept_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program, inputs = wide()
    engine, bank, made = _engine(program), bank_of(program, inputs), []
    make = engine._thinned.parts.make
    monkeypatch.setattr(
        type(engine._thinned.parts), "make", lambda _, *args: made.append(1) or make(*args)
    )
    run = engine.open(inputs, bank, range(2))
    run.samples(3, 20)
    assert len(made) == 32, "blocks are made whole"
    run.samples(0, 32)
    engine.open(inputs, bank, range(1)).samples(7, 9)
    assert len(made) == 32


def test_samples_share_a_few_shapes() -> None:
    """Each shape of a product is compiled for, once for each number of rows."""
    program, inputs = wide(500)
    engine, bank = _engine(program), bank_of(program, inputs)
    samples = _packs(engine).samples(bank, range(64))
    shapes = {value.shape for own in samples for value in own.values() if value.ndim == 2}
    assert len(shapes) < 20
    assert all(size % 32 == 0 or size == 3 for shape in shapes for size in shape)


def test_threads_share_an_engine(team: Team) -> None:
    program, inputs = wide()
    engine, bank = _engine(program), bank_of(program, inputs)
    engine.team = team
    run = engine.open(inputs, bank, range(2))
    oracle = by_loop(program, inputs, bank, range(64))[0]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for i in range(30):
            start = 8 * ((i + offset) % 8)
            (out,) = run.samples(start, start + 8)
            if not torch.allclose(out, oracle[start : start + 8], atol=1e-5):
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    can_pack.cache_clear()
    assert can_pack()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_packed_product_is_a_product() -> None:
    torch.manual_seed(0)
    for rows, inputs, outputs in ((1, 1, 1), (3, 17, 15), (2, 9, 16), (33, 130, 67)):
        x, weight, bias = (
            torch.randn(*size) for size in ((rows, inputs), (inputs, outputs), (outputs,))
        )
        for activation in ("", "relu"):
            for b in (bias, None):
                wanted = x @ weight if b is None else x @ weight + b
                wanted = wanted.relu() if activation else wanted
                found = packed_linear(x, packed(weight), b, activation)
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
                columns = x.t().contiguous().t()
                found = packed_linear(columns, packed(weight), b, activation)
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"masks": "independent"}, "no site to thin"), ({"precision": "bfloat16"}, "for float32")],
)
def test_what_cannot_be_packed_is_refused_with_the_reason(
    options: dict[str, str], reason: str
) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    with pytest.raises(mcdrop.InputError, match=f"{reason}.*auto"):
        mcdrop.MCDropout(net, torch.randn(2, 8), task="regression", engine="packed", **options)


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_for_float32(bias: bool) -> None:
    layers = nn.Linear(8, 8, bias=bias), nn.Dropout(0.5), nn.Linear(8, 2, bias=bias)
    net = nn.Sequential(*layers).double()
    x = torch.randn(2, 8, dtype=torch.float64)
    with pytest.raises(mcdrop.InputError, match=r"for float32\. Take"):
        mcdrop.MCDropout(net, x, task="regression", engine="packed")
    assert "packed" not in str(mcdrop.MCDropout(net, x, task="regression").plan)


def test_the_planner_takes_it_where_it_is_fastest_and_forgets_what_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcdrop.engine.search._CALLS", 0.0)  # it is tried on any machine
    torch.manual_seed(0)
    layers = [nn.Linear(8, 700), nn.ReLU(), nn.Dropout(0.5), nn.Linear(700, 700), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(700, 2)).eval()
    x = torch.randn(32, 8)
    mc = mcdrop.MCDropout(net, x, task="regression")
    mc.predict(x, samples=64)
    seconds = {t.way.engine: t.seconds for t in mc.plan.trials if not t.fresh}
    assert {"batched", "thinned", "packed"} <= set(seconds)
    planner = mc._opened.source
    assert isinstance(planner, Planner)
    kept = {
        "thinned": planner._thinned._gathers.kept_bytes,
        "packed": _packs(planner._packed).kept_bytes,
    }
    assert {name for name, size in kept.items() if size} <= {mc.plan.kept.engine}
    one = mc.predict(x, samples=40).mean
    loop = mcdrop.MCDropout(net, x, task="regression", engine="loop").predict(x, samples=40).mean
    torch.testing.assert_close(one, loop, rtol=1e-4, atol=1e-5)


def test_the_plan_tells_of_the_sites() -> None:
    x = torch.randn(5, 6)
    mc = mcdrop.MCDropout(thin_nets.net("chain").module, x, task="regression", engine="packed")
    assert "site '2': thinned" in str(mc.plan)
