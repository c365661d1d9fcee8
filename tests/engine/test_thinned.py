"""The thinned engine against the loop, and what it keeps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine import BatchedEngine, ThinnedEngine
from mcdrop.engine.gather import Gathers
from mcdrop.engine.table import lay_out
from mcdrop.program.thinning import COPY_COST, Gathered
from mcdrop.sampling import KEEP_BYTES, MaskBank
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


def _engine(
    program: mcdrop.Program, budget: int = BUDGET, copy_cost: float = COPY_COST
) -> ThinnedEngine:
    return ThinnedEngine(program, "shared", budget, copy_cost)


@pytest.mark.parametrize("copy_cost", [0, 1e9], ids=["units taken", "zero weights"])
@pytest.mark.parametrize("budget", [BUDGET, 0], ids=["kept", "gathered anew"])
@pytest.mark.parametrize("name", THINNED)
def test_equals_the_loop(name: str, budget: int, copy_cost: float) -> None:
    program = thin_nets.program(name)
    inputs = inputs_of(program, thin_nets.net(name).x)
    bank, engine = bank_of(program, inputs), _engine(program, budget, copy_cost)
    assert engine.applies
    oracle = by_loop(program, inputs, bank, range(11))
    run = engine.open(inputs, bank, range(5))
    for start, stop in ((0, 11), (0, 1), (3, 8), (8, 11), (10, 11)):
        assert_close(run.samples(start, stop), [output[start:stop] for output in oracle])
    for rows in (slice(0, 1), slice(2, 4)):  # requests share what is gathered
        part = {key: value[rows] for key, value in inputs.items()}
        ours = engine.open(part, bank, range(5)[rows]).samples(0, 11)
        assert_close(ours, [output[:, rows] for output in oracle])


@pytest.mark.parametrize("name", zoo.NAMES)
def test_equals_the_loop_on_the_zoo(name: str) -> None:
    program = zoo.program(name)
    engine = _engine(program)
    if not engine.applies:
        assert "thinned" not in engine.reasons.values()
        return
    inputs = inputs_of(program, zoo.build(name)[1])
    bank = bank_of(program, inputs)
    rows = len(next(iter(inputs.values())))
    run = engine.open(inputs, bank, range(rows))
    ours = [torch.cat(parts) for parts in zip(run.samples(0, 4), run.samples(4, 7), strict=True)]
    assert_close(ours, by_loop(program, inputs, bank, range(7)))


def test_the_zoo_has_nets_to_thin() -> None:
    applies = {name for name in zoo.NAMES if _engine(zoo.program(name)).applies}
    assert {"dropout", "functional", "dropout1d", "dropout2d", "dropout3d"} <= applies
    assert not applies & {"transformer", "lstm", "noise", "alpha"}


@pytest.mark.parametrize("name", ["chain", "conv_norm_pool", "conv_to_linear", "mixed"])
def test_no_operation_falls_back_to_a_loop_under_vmap(name: str) -> None:
    program = thin_nets.program(name)
    inputs = inputs_of(program, thin_nets.net(name).x)
    run = _engine(program).open(inputs, bank_of(program, inputs), range(5))
    torch._C._functorch._set_vmap_fallback_enabled(False)
    try:
        run.samples(0, 3)
    finally:
        torch._C._functorch._set_vmap_fallback_enabled(True)


def test_seeds_and_samplings_are_kept_apart() -> None:
    program = thin_nets.program("chain")
    assert_keeps_seeds_apart(_engine(program), program, thin_nets.net("chain").x)


def test_free_axes() -> None:
    net = nn.Sequential(
        nn.Dropout2d(0.3), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, 2, 3)
    )
    free = {"input": {2: (6, 32), 3: (6, 32)}}
    program = mcdrop.capture(net.eval(), torch.randn(3, 2, 8, 8), dynamic_axes=free)
    engine = _engine(program)
    for size in ((6, 9), (11, 7)):
        inputs = inputs_of(program, torch.randn(4, 2, *size))
        bank = bank_of(program, inputs)
        ours = engine.open(inputs, bank, range(4)).samples(0, 5)
        assert_close(ours, by_loop(program, inputs, bank, range(5)))


def test_bfloat16() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 16), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(16, 3)).bfloat16().eval()
    x = torch.randn(4, 6, dtype=torch.bfloat16)
    program = mcdrop.capture(net, x)
    inputs = inputs_of(program, x)
    bank = bank_of(program, inputs)
    (ours,) = _engine(program).open(inputs, bank, range(4)).samples(0, 5)
    (oracle,) = by_loop(program, inputs, bank, range(5))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, oracle, rtol=0.02, atol=0.02)


def test_a_free_axis_of_one_position_is_still_one() -> None:
    """Measured at its smallest size, a mask of each position looks like one of each channel."""
    net = nn.Sequential(nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Dropout(0.3), nn.Conv1d(4, 2, 1))
    x = torch.randn(3, 2, 5)
    mc = mcdrop.MCDropout(net.eval(), x, task="regression", dynamic_axes={"input": {2: (1, 16)}})
    assert mc.predict(x, samples=8).mean.shape == x.shape
    assert "thinned" not in _engine(mc.program).reasons.values()


def test_what_inference_mode_has_gathered_can_be_used_outside() -> None:
    x = torch.randn(3, 6)
    net = thin_nets.net("chain").module
    mc = mcdrop.MCDropout(net, x, task="regression", engine="thinned")
    with torch.inference_mode():
        inside = mc.predict(x, samples=300)
    torch.testing.assert_close(mc.predict(x, samples=300).mean, inside.mean)


def test_reasons_name_every_site() -> None:
    engine = _engine(thin_nets.program("mixed"))
    assert engine.reasons["drop"] == "thinned"
    assert "not alone" in engine.reasons["attention"]


def test_independent_masks_cannot_be_thinned() -> None:
    engine = ThinnedEngine(thin_nets.program("plain"), "independent", BUDGET)
    assert not engine.applies
    assert engine.reasons == {"2": "each row has a mask of its own"}


def test_a_mixed_tail_draws_the_masks_it_reads() -> None:
    program = thin_nets.program("mixed")
    inputs = inputs_of(program, thin_nets.net("mixed").x)
    run = _engine(program).open(inputs, bank_of(program, inputs), range(5))
    assert list(run.masked.values()) == [0]
    chain = thin_nets.program("chain")
    inputs = inputs_of(chain, thin_nets.net("chain").x)
    assert not _engine(chain).open(inputs, bank_of(chain, inputs), range(5)).masked


# What is kept.


class _Counting:
    """A bank that counts what is drawn of it."""

    def __init__(self, bank: MaskBank) -> None:
        self._bank = bank
        self.drawn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bank, name)

    def draw(self, samples: range, rows: Sequence[int]) -> list[Tensor]:
        self.drawn += 1
        return self._bank.draw(samples, rows)


def _gathers(engine: ThinnedEngine) -> Gathers:
    return engine._gathers


def test_first_samples_are_gathered_once() -> None:
    program, inputs = wide()
    engine, bank = _engine(program), _Counting(bank_of(program, inputs))
    run = engine.open(inputs, bank, range(2))
    first = run.samples(0, 16)
    kept = _gathers(engine).kept_bytes
    assert bank.drawn == 1
    assert kept > 0
    again = engine.open(inputs, bank, range(2)).samples(0, 16)
    inside = run.samples(4, 9)
    assert bank.drawn == 1, "gathered again"
    assert _gathers(engine).kept_bytes == kept
    assert torch.equal(first[0], again[0])
    assert_close(inside, [first[0][4:9]])
    run.samples(16, 32)
    assert bank.drawn == 1, "stretches of 32 are gathered together"
    run.samples(24, 40)
    assert bank.drawn == 2, "what lies in two stretches is gathered with both"


def test_samples_beyond_the_first_are_thrown_away() -> None:
    program, inputs = wide(200)
    engine, bank = _engine(program), _Counting(bank_of(program, inputs))
    run = engine.open(inputs, bank, range(2))
    run.samples(112, 128)
    kept = _gathers(engine).kept_bytes
    assert kept > 0
    for start in (120, 128, 500, 128):  # 120 to 136 is not all among the first 128
        run.samples(start, start + 16)
    assert bank.drawn == 5
    assert _gathers(engine).kept_bytes == kept


def test_what_is_small_is_kept_of_more_samples() -> None:
    """As many as take 8 MiB, a power of two, but no fewer than 128."""
    small, large = (_gathers(_engine(wide(width)[0])) for width in (16, 200))
    assert large.kept_samples == 128
    assert small.kept_samples == 4096
    assert large.expected_bytes(256) > KEEP_BYTES >= small.expected_bytes(4096)
    program, inputs = wide(16)
    engine, bank = _engine(program), _Counting(bank_of(program, inputs))
    run = engine.open(inputs, bank, range(2))
    for _ in range(2):
        run.samples(992, 1008)
    assert bank.drawn == 1


def test_memory_is_flat_in_the_number_of_samples() -> None:
    program, inputs = wide(200)
    engine, bank = _engine(program), bank_of(program, inputs)
    run = engine.open(inputs, bank, range(2))

    def held() -> int:
        return _gathers(engine).kept_bytes + sum(
            buffer.nbytes for buffers in _gathers(engine)._spare for buffer in buffers.values()
        )

    sizes = []
    for start in range(0, 1024, 16):
        run.samples(start, start + 16)
        sizes.append(held())
    assert sizes[-1] < 1.5 * sizes[16]
    buffers = {key: value.data_ptr() for key, value in _gathers(engine)._spare[0].items()}
    run.samples(512, 528)
    assert buffers == {k: v.data_ptr() for k, v in _gathers(engine)._spare[0].items()}


def test_what_is_kept_stays_within_half_of_the_budget() -> None:
    program, inputs = wide()
    one = _engine(program)
    one.open(inputs, bank_of(program, inputs), range(2)).samples(0, 32)
    size = _gathers(one).kept_bytes
    engine, bank = _engine(program, 5 * size), _Counting(bank_of(program, inputs))
    run = engine.open(inputs, bank, range(2))
    for start in range(0, 128, 32):
        run.samples(start, start + 32)
    kept = _gathers(engine).kept_bytes
    assert 1.5 * size < kept <= 2.5 * size
    drawn = bank.drawn
    run.samples(0, 32)
    run.samples(32, 64)
    assert bank.drawn == drawn
    run.samples(64, 96)
    assert bank.drawn == drawn + 1


def test_a_stretch_that_turns_out_too_large_is_gathered_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where its size was underestimated it is used all the same, and its buffers are kept."""
    program, inputs = wide(200)
    engine, bank = _engine(program, 0), _Counting(bank_of(program, inputs))
    monkeypatch.setattr(type(_gathers(engine)), "expected_bytes", lambda *_: 0)
    run = engine.open(inputs, bank, range(2))
    plain = _engine(program).open(inputs, bank_of(program, inputs), range(2))
    assert_close(run.samples(0, 16), plain.samples(0, 16))
    assert bank.drawn == 1
    assert _gathers(engine).kept_bytes == 0
    buffers = {name: value.data_ptr() for name, value in _gathers(engine)._spare[0].items()}
    assert buffers
    run.samples(5000, 5001)  # smaller, and never kept: written into the same memory
    (after,) = _gathers(engine)._spare
    assert buffers == {name: value.data_ptr() for name, value in after.items()}


def test_older_seeds_make_way() -> None:
    program, inputs = wide()
    engine = _engine(program)
    banks = [_Counting(bank_of(program, inputs, seed)) for seed in range(3)]

    def sample(seed: int) -> bool:
        """Whether it had to be gathered."""
        before = banks[seed].drawn
        engine.open(inputs, banks[seed], range(2)).samples(0, 16)
        return banks[seed].drawn > before

    assert [sample(seed) for seed in (0, 1, 0, 1)] == [True, True, False, False]
    two = _gathers(engine).kept_bytes
    assert [sample(seed) for seed in (0, 2, 0, 2)] == [False, True, False, False]
    assert sample(1), "the seed that was used last but two is gone"
    assert _gathers(engine).kept_bytes < 1.2 * two


def test_a_new_seed_takes_the_room_of_an_old_one() -> None:
    program, inputs = wide()
    one = _engine(program)
    one.open(inputs, bank_of(program, inputs), range(2)).samples(0, 16)
    engine = _engine(program, int(2.8 * _gathers(one).kept_bytes))
    for seed in (0, 1):
        bank = _Counting(bank_of(program, inputs, seed))
        for _ in range(2):
            engine.open(inputs, bank, range(2)).samples(0, 16)
        assert bank.drawn == 1
    assert _gathers(engine).kept_bytes <= 1.4 * _gathers(one).kept_bytes


def test_the_estimate_is_near_what_is_gathered() -> None:
    for program, inputs in (wide(), wide(200)):
        engine = _engine(program)
        engine.open(inputs, bank_of(program, inputs), range(2)).samples(0, 64)
        assert engine.gather_bytes(64) == pytest.approx(_gathers(engine).kept_bytes, rel=0.15)
        assert engine.gather_bytes(128) == 2 * engine.gather_bytes(64)


def test_threads_do_not_share_buffers() -> None:
    program, inputs = wide()
    engine, bank = _engine(program, 0), bank_of(program, inputs)
    run = engine.open(inputs, bank, range(2))
    expected = [run.samples(start, start + 8)[0] for start in range(0, 64, 8)]
    wrong: list[int] = []

    def work(offset: int) -> None:
        with torch.no_grad():
            for i in range(40):
                j = (i + offset) % 8
                (out,) = run.samples(8 * j, 8 * j + 8)
                if not torch.allclose(out, expected[j], atol=1e-5):
                    wrong.append(j)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("outputs", [None, "o"])
@pytest.mark.parametrize("inputs", [None, "i"])
def test_a_table_gathers_what_indexing_does(
    group: int, outputs: str | None, inputs: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only some blocks are copied at a time; number 5 stands for no output."""
    monkeypatch.setattr("mcdrop.engine.table._AT_A_TIME", 20)
    if outputs is None and inputs is None:
        return
    torch.manual_seed(0)
    units = {"i": torch.tensor([[0, 2, 3], [1, 4, 4]]), "o": torch.tensor([[1, 4], [0, 5]])}
    sizes = {"i": 3, "o": 2}
    for form, shape in (("matrix", (5, 4 * group)), ("kernel", (5, 4, 3, 2))):
        if form == "kernel" and group != 1:
            continue
        weight = torch.randn(shape)
        part = Gathered("w", "w", form, outputs, inputs, group, 2.0)  # type: ignore[arg-type]
        table = lay_out(part, weight)
        out = torch.empty(2, *part.shape(shape, sizes))
        table.gather(units, out)
        padded = torch.zeros(shape[0] + 1, shape[1] + group, *shape[2:])
        padded[: shape[0], : shape[1]] = 2.0 * weight
        padded[shape[0]] = padded[shape[0] - 1]
        for s in range(2):
            rows = units["o"][s] if outputs else torch.arange(5)
            columns = units["i"][s] if inputs else torch.arange(shape[1] // group)
            columns = (columns[:, None] * group + torch.arange(group)).flatten()
            expected = padded[rows][:, columns]
            assert torch.equal(out[s], expected.t() if form == "matrix" else expected)


def test_batched_and_thinned_agree_on_a_wide_net() -> None:
    program, inputs = wide(200)
    bank = bank_of(program, inputs)
    ours = _engine(program).open(inputs, bank, range(2)).samples(0, 32)
    assert_close(ours, BatchedEngine(program).open(inputs, bank, range(2)).samples(0, 32))
