"""The bank: shapes, chunks, rows, laws other than drop-out, what is kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop.program.site import BatchLayout, Law, Site
from mcdrop.sampling import BLOCK, Banks, MaskBank
from mcdrop.sampling.bank import KEEP_BYTES

Z = 4.9  # two-sided 1e-6
CPU = torch.device("cpu")


def _bank(masks: str = "shared", law: Law | None = None, **options: Any) -> MaskBank:
    law = law or Law("bernoulli", 0.5, 2.0)
    sites = tuple(
        Site(name, "dropout", 0.5, (1, 10), law, name, index, layout=layout)
        for index, (name, layout) in enumerate((("rows", BatchLayout(0)), ("weights", None)))
    )
    options = {"seed": 0, "shapes": ((1, 10), (10, 10)), "sampling": "balanced", **options}
    return MaskBank(sites=sites, masks=masks, device=CPU, **options)


def test_shared_masks_have_one_row_and_sites_without_rows_always_do() -> None:
    rows, weights = _bank("shared").draw(range(3), range(5))
    assert rows.shape == (3, 1, 1, 10)
    assert weights.shape == (3, 1, 10, 10)
    rows, weights = _bank("independent").draw(range(3), range(5))
    assert rows.shape == (3, 5, 1, 10)
    assert weights.shape == (3, 1, 10, 10)


@pytest.mark.parametrize("sampling", ["balanced", "iid"])
@pytest.mark.parametrize("kind", ["bernoulli", "uniform", "normal"])
def test_any_chunk_can_be_drawn_alone(sampling: str, kind: str) -> None:
    bank = _bank("independent", Law(kind, 0.3, 1.5), sampling=sampling)
    whole = bank.draw(range(40), range(6))
    for samples, rows in (((5, 8), [2, 3]), ((10, 37), [0, 1, 5]), ((16, 32), [4])):
        part = bank.draw(range(*samples), rows)
        assert torch.equal(whole[0][samples[0] : samples[1]][:, rows], part[0])
        assert torch.equal(whole[1][samples[0] : samples[1]], part[1])


def test_dropped_units_are_zero_and_kept_ones_scaled() -> None:
    mask = _bank(law=Law("bernoulli", 0.25, 4 / 3)).draw(range(64), range(1))[1]
    assert mask.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (mask == 0).sum(0).eq(16).all()


def _levels(kind: str, sampling: str, samples: int) -> Tensor:
    bank = _bank(law=Law(kind), sampling=sampling, shapes=((1, 50_000), (1, 1)), seed=4)
    return bank.draw(range(samples), range(1))[0].double().flatten(1)


@pytest.mark.parametrize("sampling", ["balanced", "iid"])
def test_uniform_and_normal_laws(sampling: str) -> None:
    uniform, normal = (_levels(kind, sampling, BLOCK) for kind in ("uniform", "normal"))
    count = uniform.numel()
    assert 0 <= uniform.min() < uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < Z * math.sqrt(1 / 12 / count)
    assert normal.isfinite().all()
    assert abs(normal.mean().item()) < Z / math.sqrt(count)
    assert abs(normal.var().item() - 1) < Z * math.sqrt(2 / count)
    assert abs(normal.pow(4).mean().item() - 3) < Z * math.sqrt(96 / count)
    for sample in uniform:  # each alone is uniform too
        assert abs(sample.mean().item() - 0.5) < Z * math.sqrt(1 / 12 / len(sample))


def test_balanced_levels_are_one_in_each_sixteenth() -> None:
    strata = (_levels("uniform", "balanced", BLOCK) * BLOCK).long().sort(0).values
    assert (strata == torch.arange(BLOCK)[:, None]).all()


def test_masks_are_kept_up_to_a_limit_and_do_not_change() -> None:
    bank = _bank(keep_bytes=4000)
    first = bank.draw(range(64), range(1))
    assert bank.draw(range(64), range(1))[0] is first[0], "small masks are handed out again"
    for _ in range(2):
        for start in range(0, 6400, 64):
            bank.draw(range(start, start + 64), range(1))
    assert bank.kept_bytes <= 4000
    assert torch.equal(_bank(keep_bytes=0).draw(range(64), range(1))[1], first[1])


def test_independent_masks_are_not_kept() -> None:
    bank = _bank("independent", shapes=((1, 10), ()))
    before = bank.kept_bytes
    bank.draw(range(64), range(100))
    assert bank.kept_bytes - before < 64 * 10


def test_a_block_of_independent_masks_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few samples at a time, as long as they come in order and for the same rows."""
    bank, made = _bank("independent"), []
    original = MaskBank._make

    def counted(self: MaskBank, position: int, blocks: range, rows: range) -> Tensor:
        made.append((position, blocks))
        return original(self, position, blocks, rows)

    monkeypatch.setattr(MaskBank, "_make", counted)
    rows = [0, 1, 5]
    parts = [bank.draw(range(s, s + 1), rows)[0] for s in range(32)]
    one_by_one = [(0, range(1)), (0, range(1, 2))]
    assert made == [one_by_one[0]] * 2 + [(1, range(16))] + [one_by_one[1]] * 2, "runs of rows"
    assert torch.equal(torch.cat(parts), _bank("independent").draw(range(32), rows)[0])
    other = bank.draw(range(3, 4), [7])[0]
    assert torch.equal(other, _bank("independent").draw(range(3, 4), [7])[0])


def test_masks_are_float32_whatever_torchs_default() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        masks = _bank(law=Law("bernoulli", 0.1, 1 / 0.9)).draw(range(16), range(1))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {mask.dtype for mask in masks} == {torch.float32}
    assert set(masks[0].unique().tolist()) <= {0.0, torch.tensor(1 / 0.9).item()}


def test_banks_are_shared_by_seed_and_shape_and_only_two_are_held() -> None:
    banks = Banks(_bank().sites, masks="shared", sampling="balanced", device=CPU)
    shapes = ((1, 10), (10, 10))
    first = banks.bank(0, shapes)
    banks.bank(1, shapes)
    assert banks.bank(0, shapes) is first
    banks.bank(2, shapes)  # pushes out the bank of seed 1, used longest ago
    assert banks.bank(0, shapes) is first
    assert banks.bank(0, ((1, 9), (10, 10))) is not first
    assert KEEP_BYTES <= 32 << 20


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first = _bank("shared").draw(range(3), range(1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    torch.manual_seed(1)
    np.random.seed(1)
    second = _bank("shared").draw(range(3), range(1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
