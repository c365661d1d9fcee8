"""Each workload builds, runs, and is always the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import peak, workloads


@pytest.mark.parametrize("name", workloads.ALL)
def test_each_builds_and_runs(name: str) -> None:
    work = workloads.build(name)
    assert work.name == name
    assert not work.module.training
    with torch.no_grad():
        out = work.module(work.batch(0))
    assert out.shape[0] == work.x.shape[0]
    assert out.isfinite().all()


def test_building_leaves_the_random_state_alone_and_gives_the_same_net() -> None:
    before = torch.get_rng_state()
    a, b = workloads.build("uci"), workloads.build("uci")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, a.module.parameters(), b.module.parameters()))
    assert torch.equal(a.batch(3), b.batch(3))
    assert not torch.equal(a.batch(3), a.batch(4))


def test_the_wide_resnet_is_16_4() -> None:
    module = workloads.build("wide_resnet").module
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    assert sum(part.kernel_size == (3, 3) for part in convolutions) == 13
    # the paper's table 4: 2.8M
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_748_890
    assert all(part.p == 0.3 for part in module.modules() if isinstance(part, nn.Dropout))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", 2 * 32 * (64 * 1024 + 2 * 1024 * 1024 + 1024 * 10)),
        # per layer and token: the four projections and the two of the feed-forward part, then
        # scores and their product with the values
        ("transformer", 4 * 8 * 64 * 2 * (4 * 256**2 + 2 * 256 * 1024 + 2 * 64 * 256)),
        ("lstm", 2 * 16 * (32 * 512 * (32 + 3 * 128) + 128)),
    ],
)
def test_flops_are_those_of_the_formulas(name: str, expected: int) -> None:
    work = workloads.build(name)
    assert peak.flops(work.module, work.x) == expected
