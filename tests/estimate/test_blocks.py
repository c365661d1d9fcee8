"""Standard error and variance of samples drawn in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mcdrop.estimate import BlockMoments
from tests.reference import uncertainty


def _values(samples: int, seed: int = 0) -> Tensor:
    return 2 + torch.randn(samples, 3, 2, generator=torch.Generator().manual_seed(seed))


def _fold(values: Tensor, size: int, chunk: int) -> BlockMoments:
    moments = None
    for start in range(0, len(values), chunk):
        part = BlockMoments.of(values[start : start + chunk], start, size)
        moments = part if moments is None else moments.merge(part)
    assert moments is not None
    return moments


@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
@pytest.mark.parametrize("samples", [17, 20, 32, 64, 100])
def test_blocks_equal_the_reference(samples: int, chunk: int) -> None:
    values = _values(samples)
    moments, expected = _fold(values, 16, chunk), uncertainty.blocks(values.numpy(), 16)
    np.testing.assert_allclose(moments.variance(), expected["variance"], rtol=1e-4)
    np.testing.assert_allclose(moments.standard_error(), expected["standard_error"], rtol=1e-4)
    np.testing.assert_allclose(moments.mean, values.mean(0), rtol=1e-5)


@pytest.mark.parametrize("samples", [2, 3, 40])
def test_blocks_of_one_are_the_usual_estimates(samples: int) -> None:
    values = _values(samples)
    moments = _fold(values, 1, 7)
    variance = values.var(0).to(moments.mean.dtype)
    torch.testing.assert_close(moments.variance(), variance, rtol=1e-4, atol=1e-6)
    expected = (variance / samples).sqrt()
    torch.testing.assert_close(moments.standard_error(), expected, rtol=1e-4, atol=1e-6)
    by_blocks = uncertainty.blocks(values.numpy(), 1)
    np.testing.assert_allclose(moments.variance(), by_blocks["variance"], rtol=1e-4)


def test_one_sample_has_no_variance() -> None:
    for size in (1, 16):
        moments = BlockMoments.of(_values(1), 0, size)
        assert moments.variance().isnan().all()
        assert moments.standard_error().isnan().all()


@pytest.mark.parametrize("repelling", [0.0, 1.0])
@pytest.mark.parametrize("samples", [2, 8, 16, 17, 20, 24, 32, 48, 64])
def test_the_variance_is_right_within_5_percent_however_much_samples_repel(
    samples: int, repelling: float
) -> None:
    """Samples of a block with correlation -1/15, the most that sixteen can have, or none.

    Over 40,000 blocks of normal values with variance 1, the mean of the estimate has a standard
    error of at most sqrt(2 / 40,000) = 0.7%; the bound is 5.2% and five of those.
    """
    generator = torch.Generator().manual_seed(samples)
    blocks = -(-samples // 16)
    values = torch.randn(blocks, 16, 40_000, generator=generator)
    values = values - repelling * values.mean(1, keepdim=True)
    values *= (16 / 15) ** (0.5 * repelling)
    moments = _fold(values.flatten(0, 1)[:samples], 16, 16)
    assert abs(moments.variance().mean().item() - 1) < 0.052 + 5 * (2 / 40_000) ** 0.5


@pytest.mark.parametrize("samples", [17, 20, 31, 50, 64, 100])
def test_the_standard_error_is_unbiased_for_blocks_of_any_sizes(samples: int) -> None:
    """Its square, of independent samples: over 40,000 its mean has an error of at most 0.7%."""
    values = torch.randn(samples, 40_000, generator=torch.Generator().manual_seed(samples))
    squared = _fold(values, 16, 32).standard_error().square()
    assert abs(squared.mean().item() * samples - 1) < 5 * (2 / 40_000) ** 0.5


@pytest.mark.parametrize("blocks", [4, 6, 10, 20])
def test_means_that_are_taken_for_good_enough_are(blocks: int) -> None:
    """Stopped when the error expected is small, their errors are, though not all equally lucky.

    `blocks` would do, were the spread known. 20,000 times: the root mean square has a standard
    error of 0.5%. By the standard error itself it would be 1.16 to 1.3 times the tolerance.
    """
    values = torch.randn(16 * 64, 20_000, generator=torch.Generator().manual_seed(blocks))
    tolerance = (16 * blocks) ** -0.5
    moments = BlockMoments.of(values[:48], 0, 16)
    assert moments.expected_error().isinf().all()
    errors, left = [], torch.arange(20_000)
    for start in range(48, len(values), 16):
        moments = moments.merge(BlockMoments.of(values[start : start + 16, left], start, 16))
        done = moments.expected_error() <= tolerance
        errors.append(moments.mean[done])
        left, moments = left[~done], moments.rows((~done).nonzero().flatten())
    assert len(left) < 200
    assert torch.cat(errors).square().mean().sqrt() < 1.13 * tolerance


def test_the_standard_error_is_that_of_repelling_samples() -> None:
    """Means of whole blocks that cancel exactly have no error; the naive formula sees a quarter."""
    values = torch.randn(4, 16, 1000, generator=torch.Generator().manual_seed(0))
    values = (values - values.mean(1, keepdim=True)).flatten(0, 1)
    moments = _fold(values, 16, 64)
    assert moments.standard_error().max() < 1e-6
    assert _fold(values, 1, 64).standard_error().min() > 0.05


def test_rows_can_be_taken_out() -> None:
    values = _values(40)
    index = torch.tensor([2, 0])
    some, alone = _fold(values, 16, 8).rows(index), _fold(values[:, index], 16, 8)
    torch.testing.assert_close(some.variance(), alone.variance())
    torch.testing.assert_close(some.standard_error(), alone.standard_error())
    more = BlockMoments.of(_values(8, 1), 40, 16)
    torch.testing.assert_close(
        some.merge(more.rows(index)).mean, _fold(values, 16, 8).merge(more).mean[index]
    )
