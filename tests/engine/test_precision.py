"""Arithmetic narrower than float32, and float32 whatever the caller has chosen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop
from tests import zoo


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3)).eval()


@pytest.mark.parametrize("name", ["transformer", "dropout", "lstm"])
def test_bfloat16_is_close_and_the_plan_says_how_close(name: str) -> None:
    _, inputs = zoo.build(name)
    narrow, exact = (
        mcdrop.MCDropout(zoo.program(name), task="regression", precision=precision)
        for precision in ("bfloat16", "float32")
    )
    a, b = (mc.sample(inputs, samples=8, seed=2) for mc in (narrow, exact))
    assert a.dtype == torch.float32
    error = float((a - b).norm() / b.norm())
    assert 1e-5 < error < 5e-2, "narrower, and near"
    assert "bfloat16: samples differ from float32 by" in str(narrow.plan)


def test_precisions_that_the_device_lacks_are_refused() -> None:
    with pytest.raises(mcdrop.InputError, match="CUDA"):
        mcdrop.MCDropout(_net(), torch.randn(2, 8), task="regression", precision="tf32")
    with pytest.raises(mcdrop.InputError, match="precision must be one of"):
        mcdrop.MCDropout(_net(), torch.randn(2, 8), task="regression", precision="float16")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("engine", ["loop", "batched", "thinned"])
def test_convolutions_behind_a_site_can_be_bfloat16(engine: str, bias: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(8, 4, 3, bias=bias)]
    net, x = nn.Sequential(*layers).eval(), torch.randn(3, 2, 8, 8)
    exact = mcdrop.MCDropout(net, x, task="regression").sample(x, samples=4)
    narrow = mcdrop.MCDropout(net, x, task="regression", engine=engine, precision="bfloat16")
    ours = narrow.sample(x, samples=4)
    assert 1e-5 < float((ours - exact).norm() / exact.norm()) < 2e-2


def test_float64_stays_float64() -> None:
    x = torch.randn(3, 8, dtype=torch.float64)
    net = _net().double()
    narrow = mcdrop.MCDropout(net, x, task="regression", precision="bfloat16")
    exact = mcdrop.MCDropout(net, x, task="regression").sample(x, samples=4)
    assert narrow.sample(x, samples=4).dtype == torch.float64
    torch.testing.assert_close(narrow.sample(x, samples=4), exact)


@pytest.mark.parametrize("engine", ["loop", "batched", "thinned"])
def test_float32_is_float32_within_the_callers_autocast(engine: str) -> None:
    x = torch.randn(3, 8)
    mc = mcdrop.MCDropout(_net(), x, task="regression", engine=engine)
    expected = mc.sample(x, samples=4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(mc.sample(x, samples=4), expected, rtol=0, atol=0)
