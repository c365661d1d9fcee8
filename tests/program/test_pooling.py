"""Max pooling by slices against torch's own."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcdrop.program.pooling import max_pool2d

pair = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(4, 11), st.integers(4, 11)),
    st.one_of(pair, pair.map(lambda p: p[:1])),
    st.one_of(st.just(()), pair),
    st.sampled_from([(0, 0), (1, 1)]),
    st.sampled_from([1, (1, 1), (2, 1)]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.booleans(),
)
def test_the_same_numbers_as_torch(shape, kernel, stride, padding, dilation, ceil, dtype, last):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)
    x.flatten()[::7] = float("nan")
    x.flatten()[::11] = float("inf")
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    if isinstance(kernel, tuple) and max(padding) * 2 > min(kernel):
        padding = 0
    pool = torch.ops.aten.max_pool2d.default
    try:
        expected = pool(x, kernel, stride, padding, dilation, ceil)
    except RuntimeError:
        with pytest.raises(RuntimeError):
            max_pool2d(x, kernel, stride, padding, dilation, ceil)
        return
    found = max_pool2d(x, kernel, stride, padding, dilation, ceil)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_under_vmap_and_on_meta():
    x = torch.randn(5, 2, 3, 8, 8)
    found = torch.func.vmap(lambda one: max_pool2d(one, (2, 2)))(x)
    torch.testing.assert_close(found, torch.stack([max_pool2d(one, (2, 2)) for one in x]))
    assert max_pool2d(x[0].to("meta"), (2, 2), (2, 2)).shape == (2, 3, 4, 4)


@pytest.mark.alone
def test_it_is_faster_than_torch_s():
    x = torch.randn(256, 48, 8, 8)

    def least(function):
        times = []
        for _ in range(7):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times[1:])

    ours = least(lambda: max_pool2d(x, (2, 2)))
    theirs = least(lambda: torch.ops.aten.max_pool2d.default(x, (2, 2)))
    assert theirs > 2 * ours  # 13 times on the machine that it was written on
