"""The stream of words: one key, one counter, the same words for ever."""

from __future__ import annotations

import numpy as np
import pytest

import mcdrop
from mcdrop.sampling.stream import MASKS, OFFSETS, MaskStream


def test_words_are_those_of_philox() -> None:
    """The first words of NumPy's Philox under this key and counter, written down once."""
    words = MaskStream(seed=7).words(3, range(2, 3), MASKS, rows=range(1, 2), count=4)
    again = np.random.Philox(
        key=np.array([7, 3], dtype=np.uint64), counter=np.array([1, 2, 0, 0], dtype=np.uint64)
    ).random_raw(4)
    assert words.tolist() == [[again.tolist()]]
    assert words.tolist() == [
        [[12398192396917815178, 3987239703786666811, 3937101213538436032, 8168129686442981514]]
    ]


@pytest.mark.parametrize("blocks", [range(1), range(4, 8)])
def test_words_do_not_depend_on_the_rows_beside_them(blocks: range) -> None:
    stream = MaskStream(seed=1)
    many = stream.words(0, blocks, MASKS, range(10), 13)
    assert many.shape == (len(blocks), 10, 13)
    for row in (0, 3, 9):
        alone = stream.words(0, blocks, MASKS, range(row, row + 1), 13)
        assert (alone == many[:, row : row + 1]).all()
    assert len(np.unique(many)) == many.size


def test_seed_site_block_row_and_purpose_all_matter() -> None:
    def words(seed: int, site: int, start: int, purpose: int, row: int) -> np.ndarray:
        blocks = range(start, start + 4)
        return MaskStream(seed).words(site, blocks, purpose, range(row, row + 1), 64)

    base = words(0, 0, 0, MASKS, 0)
    for other in (
        words(1, 0, 0, MASKS, 0),
        words(0, 1, 0, MASKS, 0),
        words(0, 0, 4, MASKS, 0),
        words(0, 0, 0, OFFSETS, 0),
        words(0, 0, 0, MASKS, 1),
    ):
        assert not np.isin(base, other).any()


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "0"])
def test_bad_seeds_are_refused(seed: object) -> None:
    with pytest.raises(mcdrop.InputError, match="seed"):
        MaskStream(seed)
