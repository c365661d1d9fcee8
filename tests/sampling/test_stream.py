"""The stream of words, and the masks made of it.

Statistical bounds are normal quantiles at a two-sided false-alarm rate of 1e-6 each, with fixed
seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import mcdrop
from mcdrop.program.site import BatchLayout, Law, Site
from mcdrop.sampling import MaskBank, MaskStream, draw

Z = 4.9  # two-sided 1e-6


def _bank(masks: str) -> MaskBank:
    law = Law("bernoulli", 0.5, 2.0)
    sites = tuple(
        Site(name, "dropout", 0.5, (1, 10), law, name, index, layout=layout)
        for index, (name, layout) in enumerate((("rows", BatchLayout(0)), ("weights", None)))
    )
    return MaskBank(MaskStream(0), sites, ((1, 10), (10, 10)), masks, torch.device("cpu"))


def test_words_are_those_of_philox() -> None:
    """The first words of NumPy's Philox under this key and counter, written down once."""
    words = MaskStream(seed=7).words(site=3, sample=2, row=1, count=4)
    again = np.random.Philox(
        key=np.array([7, 3], dtype=np.uint64), counter=np.array([0, 2, 1, 0], dtype=np.uint64)
    ).random_raw(2)
    low, high = again & 0xFFFFFFFF, again >> 32
    assert words.tolist() == [low[0], high[0], low[1], high[1]]
    assert words.tolist() == [2458273133, 2128842027, 475124782, 2751043299]


def test_words_do_not_depend_on_how_many_are_drawn() -> None:
    stream = MaskStream(seed=1)
    long = stream.words(0, 0, 0, 101)
    for count in (1, 2, 7, 100):
        assert (stream.words(0, 0, 0, count) == long[:count]).all()


def test_seed_site_sample_and_row_all_matter() -> None:
    base = MaskStream(0).words(0, 0, 0, 64)
    others = [
        MaskStream(1).words(0, 0, 0, 64),
        MaskStream(0).words(1, 0, 0, 64),
        MaskStream(0).words(0, 1, 0, 64),
        MaskStream(0).words(0, 0, 1, 64),
    ]
    for other in others:
        assert (base != other).sum() > 60


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_rates_have_no_measurable_bias(p: float) -> None:
    count = 4_000_000
    kept = draw(Law("bernoulli", p), MaskStream(3).words(0, 0, 0, count)).double().mean().item()
    assert abs(kept - (1 - p)) < Z * math.sqrt(p * (1 - p) / count)


def test_rates_of_zero_and_one_are_exact() -> None:
    words = MaskStream(3).words(0, 0, 0, 1000)
    assert draw(Law("bernoulli", 0.0, 1.0), words).eq(1).all()
    assert draw(Law("bernoulli", 1.0, 0.0), words).eq(0).all()


def test_uniform_and_normal_laws() -> None:
    count = 1_000_000
    uniform = draw(Law("uniform"), MaskStream(4).words(0, 0, 0, count)).double()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean().item() - 0.5) < Z * math.sqrt(1 / 12 / count)
    normal = draw(Law("normal"), MaskStream(5).words(0, 0, 0, count)).double()
    assert normal.isfinite().all()
    assert abs(normal.mean().item()) < Z / math.sqrt(count)
    assert abs(normal.var().item() - 1) < Z * math.sqrt(2 / count)
    assert abs(normal.pow(4).mean().item() - 3) < Z * math.sqrt(96 / count)


def test_units_and_samples_are_independent() -> None:
    """Correlations between neighbouring units, samples, sites and rows are those of chance."""
    bank = _bank("independent")
    masks, _ = bank.draw(range(2000), range(4))
    centred = masks.double().squeeze(2) - 1.0  # [S, R, 10], unit variance at p = 0.5
    for a, b in (
        (centred[1:], centred[:-1]),
        (centred[:, 1:], centred[:, :-1]),
        (centred[..., 1:], centred[..., :-1]),
    ):
        product = a * b
        assert abs(product.mean().item()) < Z / math.sqrt(product.numel())


def test_shared_masks_have_one_row_and_sites_without_rows_always_do() -> None:
    rows, weights = _bank("shared").draw(range(3), range(5))
    assert rows.shape == (3, 1, 1, 10)
    assert weights.shape == (3, 1, 10, 10)
    rows, weights = _bank("independent").draw(range(3), range(5))
    assert rows.shape == (3, 5, 1, 10)
    assert weights.shape == (3, 1, 10, 10)


def test_any_chunk_can_be_drawn_alone() -> None:
    bank = _bank("independent")
    whole = bank.draw(range(8), range(6))
    part = bank.draw(range(5, 8), range(2, 4))
    assert torch.equal(whole[0][5:8, 2:4], part[0])
    assert torch.equal(whole[1][5:8], part[1])


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "0"])
def test_bad_seeds_are_refused(seed: object) -> None:
    with pytest.raises(mcdrop.InputError, match="seed"):
        MaskStream(seed)


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
