"""Drop patterns: rates, balance, independence.

Statistical bounds are normal quantiles at a two-sided false-alarm rate of 1e-6 each, with fixed
seeds.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mcdrop.sampling import BLOCK, patterns
from mcdrop.sampling.patterns import CYCLE
from mcdrop.sampling.stream import MaskStream, together

Z = 4.9  # two-sided 1e-6
RATES = [0.001, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999]
ROW = range(1)


def _patterns(law: str, p: float, units: int, blocks: int, seed: int) -> np.ndarray:
    """Patterns `[blocks, units]`, as many blocks drawn together as the bank does."""
    draw, size = getattr(patterns, law), together(units)
    starts = range(0, blocks, size)
    parts = [draw(MaskStream(seed), 0, range(s, s + size), ROW, units, p)[:, 0] for s in starts]
    return np.concatenate(parts)[:blocks]


def _drops(law: str, p: float, units: int, blocks: int = 1, seed: int = 3) -> np.ndarray:
    """Bits `[samples, units]`."""
    drawn = _patterns(law, p, units, blocks, seed)
    bits = (drawn[:, None] >> np.arange(BLOCK).astype(np.uint16)[:, None]) & 1
    return bits.reshape(-1, units)


@pytest.mark.parametrize("law", ["balanced", "independent"])
@pytest.mark.parametrize("p", RATES)
def test_rates_have_no_measurable_bias(law: str, p: float) -> None:
    """Of all samples together, and of each of a block's samples alone."""
    units = 1_000_000
    drops = _drops(law, p, units)
    each = drops.mean(1)
    assert np.abs(each - p).max() < Z * math.sqrt(p * (1 - p) / units)
    spread = p * (1 - p) / drops.size  # of the balanced law the true spread is smaller
    assert abs(drops.mean() - p) < Z * math.sqrt(spread)


@pytest.mark.parametrize("p", RATES)
def test_independent_counts_are_binomial(p: float) -> None:
    units = 1_000_000
    counts = np.bincount(_drops("independent", p, units).sum(0), minlength=BLOCK + 1) / units
    for d, share in enumerate(counts):
        law = math.comb(BLOCK, d) * p**d * (1 - p) ** (BLOCK - d)
        # the last term allows for one case in a law so rare that none is expected
        assert abs(share - law) < Z * math.sqrt(law * (1 - law) / units) + 2 / units


@pytest.mark.parametrize("p", RATES)
def test_balanced_counts_stay_within_one_in_a_cycle(p: float) -> None:
    drops = _drops("balanced", p, units=2000, blocks=2 * CYCLE)
    for cycle in np.split(drops, 2):
        for samples in range(BLOCK, CYCLE * BLOCK + 1, BLOCK):
            assert np.abs(cycle[:samples].sum(0) - p * samples).max() < 1.0


@pytest.mark.parametrize("p", [1 / 32, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("law", ["balanced", "independent"])
def test_what_two_units_do_together_averages_out(law: str, p: float) -> None:
    """How often 1,000 pairs of units drop together in 65,536 samples spreads as chance has it.

    The ratio of its variance over the pairs to that of independent samples has a standard error of
    sqrt(2 / 1000) = 4.5%, and is at most 1.22 (at p = 1/32, where units share a rhythm within a
    cycle): the bound of 1.5 is six of them above. A rhythm kept for all samples would make it 60.
    """
    blocks, pairs = 4096, 1000
    drawn = _patterns(law, p, 2 * pairs, blocks, seed=5).reshape(blocks, 2, pairs)
    counts = np.bitwise_count(drawn[:, 0] & drawn[:, 1]).sum(0, dtype=np.int64)
    expected = blocks * BLOCK * p * p
    assert abs(counts.mean() - expected) < Z * math.sqrt(1.5 * expected / pairs)
    assert counts.var() < 1.5 * expected * (1 - p * p)


@pytest.mark.parametrize("law", ["balanced", "independent"])
def test_subsets_of_a_size_are_equally_likely(law: str) -> None:
    """Every pair of a block's samples drops a unit together as often as any other pair."""
    units, p = 400_000, 0.3
    drops = _drops(law, p, units).astype(np.float64)
    together = drops @ drops.T / units
    off = together[~np.eye(BLOCK, dtype=bool)]
    if law == "independent":
        expected = p * p
    else:  # E[d (d - 1)] / (16 · 15), d = 4 or 5 with mean 4.8
        expected = (0.2 * 4 * 3 + 0.8 * 5 * 4) / (BLOCK * (BLOCK - 1))
    assert np.abs(off - expected).max() < Z * math.sqrt(expected * (1 - expected) / units)


@pytest.mark.parametrize("law", ["balanced", "independent"])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_units_are_independent(law: str, p: float) -> None:
    """Correlations between neighbouring units are those of chance, in every sample."""
    drops = (_drops(law, p, units=200_000) - p) / math.sqrt(p * (1 - p))
    for lag in (1, 2, 4):
        correlation = (drops[:, lag:] * drops[:, :-lag]).mean(1)
        assert np.abs(correlation).max() < Z / math.sqrt(200_000 - lag)


@pytest.mark.parametrize("law", ["balanced", "independent"])
def test_rates_of_zero_and_one_are_exact(law: str) -> None:
    assert not _drops(law, 0.0, 1000, blocks=3).any()
    assert _drops(law, 1.0, 1000, blocks=3).all()


@pytest.mark.parametrize("law", ["balanced", "independent"])
def test_neighbouring_blocks_are_independent(law: str) -> None:
    """Which samples of a block drop a unit says nothing of the next block."""
    first, second = _patterns(law, 0.5, 100_000, 2, seed=1)
    bits = [((d[:, None] >> np.arange(BLOCK)) & 1) * 2.0 - 1.0 for d in (first, second)]
    for a, b in itertools.product(range(4), repeat=2):
        assert abs((bits[0][:, a] * bits[1][:, b]).mean()) < Z / math.sqrt(100_000)
