"""In bfloat16 layers drop at their rates: noise of that type has 256 levels, and small rates none.

Each share is a mean of independent draws, tested at five standard errors: one false alarm in
1.7 million for each.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop import layers

BF16 = torch.bfloat16


def close(share: Tensor, rate: float, draws: int) -> bool:
    return abs(float(share) - rate) < 5.0 * math.sqrt(rate * (1.0 - rate) / draws)


def test_drop_block_begins_squares_as_often_as_in_float32() -> None:
    torch.manual_seed(0)
    layer, x = layers.DropBlock(0.02, 7), torch.ones(2000, 2, 14, 14)
    narrow, full = ((layer(each) == 0).float().mean((1, 2, 3)) for each in (x.to(BF16), x))
    # squares of a row go together: the error is that of rows
    error = math.sqrt((narrow.var() + full.var()) / len(x))
    assert abs(narrow.mean() - full.mean()) < 5.0 * error
    assert narrow.mean() < 0.025  # 0.07 with numbers of bfloat16


def test_the_attention_drop_layer_chooses_at_its_rate() -> None:
    torch.manual_seed(0)
    x = torch.ones(200_000, 1, 1, 2, dtype=BF16)
    chosen = layers.AttentionDropLayer(0.002, 0.5)(x)[:, 0, 0, 0] == 0
    assert close(chosen.float().mean(), 0.002, len(x))


@pytest.mark.parametrize("beta", [-7.0, 7.0])
def test_adaptive_dropout_keeps_at_its_rate(beta: float) -> None:
    torch.manual_seed(0)
    layer = layers.AdaptiveDropout(nn.Identity(), alpha=0.0, beta=beta)
    kept = layer(torch.ones(500_000, dtype=BF16)) != 0
    assert close(kept.float().mean(), 1.0 / (1.0 + math.exp(-beta)), len(kept))


def test_concrete_dropout_drops_at_its_rate() -> None:
    torch.manual_seed(0)
    layer = layers.ConcreteDropout(nn.Linear(1, 1, bias=False), 10, p=0.01, temperature=0.05)
    with torch.no_grad():
        layer.layer.weight.fill_(1.0)
    layer = layer.to(BF16)
    rate = layer.p  # of a logit that has been rounded
    out = layer(torch.ones(500_000, 1, dtype=BF16))
    # z is above a half exactly where u is above 1 - p
    assert close((out < 0.5 / (1.0 - rate)).float().mean(), rate, len(out))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("p", [0.5, 0.999, math.nextafter(1.0, 0.0)])
def test_attention_dropout_stays_finite(dtype: torch.dtype, p: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(20, 4096).to(dtype).requires_grad_()
    y = layers.AttentionDropout(p, strength=1.0)(x)
    assert not y.isnan().any()
    y.sum().backward()
    assert x.grad is not None
    assert not x.grad.isnan().any()


def test_samples_drop_as_training_does() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(layers.DropBlock(0.02, 7)).to(BF16)
    x = torch.ones(64, 1, 14, 14, dtype=BF16)
    mc = mcdrop.MCDropout(net, x, task="regression", masks="independent")
    share = (mc.sample(x, samples=64) == 0).float().mean((2, 3, 4)).flatten()
    # 0.0193 after overlaps, as in float32; one of 4,096 maps is one draw
    assert abs(share.mean() - 0.0193) < 5.0 * share.std() / math.sqrt(len(share)) + 0.001
