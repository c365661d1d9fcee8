"""Which tails can have the sample axis in front, and that they then say the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine import BatchedEngine, ThinnedEngine
from tests import zoo


def _tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.3), nn.Tanh(), nn.Linear(6, 2))


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


NETS = {
    "mlp": (nn.Sequential(nn.Dropout(0.1), nn.Linear(4, 9), nn.GELU(), nn.Dropout(0.5),
                          nn.Linear(9, 3)), (3, 4), True),
    "scaled": (nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.LeakyReLU(0.2)), (3, 4), True),
    "tokens": (_tokens(), (3, 5, 4), True),
    "images": (nn.Sequential(nn.Dropout2d(0.3), nn.ReLU(), nn.Linear(4, 2)), (3, 6, 4, 4), True),
    "skip": (Skip(), (3, 4), False),
    "normed": (nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.LayerNorm(9)), (3, 4), False),
    "flattened": (nn.Sequential(nn.Dropout(0.3), nn.Flatten(), nn.Linear(8, 2)), (3, 2, 4), False),
    "time_first": (zoo.build("time_major")[0], None, False),
}  # fmt: skip


@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("name", NETS)
def test_leading_samples_equal_the_loop(name: str, masks: str) -> None:
    module, shape, leads = NETS[name]
    x = zoo.build("time_major")[1] if shape is None else torch.randn(shape)
    loop = mcdrop.MCDropout(module, x, task="regression", masks=masks, engine="loop")
    batched = mcdrop.MCDropout(loop.program, task="regression", masks=masks, engine="batched")
    assert BatchedEngine(loop.program)._chunk.leads == leads
    torch.testing.assert_close(
        batched.sample(x, samples=20, seed=3), loop.sample(x, samples=20, seed=3),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_thinned_chains_lead_and_convolutions_do_not() -> None:
    mlp = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 3))
    conv = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Dropout2d(0.5), nn.Conv2d(8, 3, 3))
    for net, x, leads in ((mlp, torch.randn(5, 4), True), (conv, torch.randn(5, 2, 8, 8), False)):
        mc = mcdrop.MCDropout(net, x, task="regression", engine="thinned")
        loop = mcdrop.MCDropout(net, x, task="regression", engine="loop")
        torch.testing.assert_close(
            mc.sample(x, samples=20), loop.sample(x, samples=20), rtol=1e-5, atol=1e-6
        )
        sampler = mc._opened.source.open(mc.plan, {"input": x}, 0, range(5))
        sampler.samples(range(16))
        (run,) = sampler._runs.values()
        assert isinstance(mc._opened.source._engines["thinned"], ThinnedEngine)
        assert run.leads == leads
