"""The eager engine's copy of the module: nobody else's, and one pass at a time."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

import mcdrop


def _net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)]
    net = nn.Sequential(*layers)
    net(3.0 + torch.randn(64, 4))  # statistics of its own
    return net.eval()


def test_the_callers_model_can_change_afterwards() -> None:
    net, x = _net(0), torch.randn(5, 4)
    mc = mcdrop.MCDropout(net, x, task="regression", engine="eager")
    before, off = mc.sample(x, samples=4), mc.deterministic(x)
    original = copy.deepcopy(net)
    net.load_state_dict(_net(1).state_dict())
    net.double()
    torch.testing.assert_close(mc.sample(x, samples=4), before, rtol=0, atol=0)
    torch.testing.assert_close(mc.deterministic(x), off, rtol=0, atol=0)
    torch.testing.assert_close(off, original(x))


class _Counting(nn.Module):
    """Writes into a buffer in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        y = self.drop(x)
        for _ in range(20):  # time for another thread to come in between
            y = y + 0.0
        return y * self.passes


def test_threads_do_not_share_a_pass() -> None:
    x = torch.randn(5, 4)
    mc = mcdrop.MCDropout(_Counting(), x, task="regression", engine="eager")
    expected = [mc.sample(x, samples=4, seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            answers = list(pool.map(lambda seed: mc.sample(x, samples=4, seed=seed), range(3)))
            for ours, alone in zip(answers, expected, strict=True):
                torch.testing.assert_close(ours, alone, rtol=0, atol=0)
