"""The ratios that the project promises, each taken in one run on this machine."""

from __future__ import annotations

import pytest
import torch

from benchmarks import memory, speed, workloads


@pytest.mark.slow
def test_a_hundred_samples_of_a_vgg_head_cost_at_most_five_passes() -> None:
    torch.manual_seed(0)
    row = speed.measure(workloads.vgg_head(), rounds=5)
    assert float(row["passes"]) <= 5.0
    assert float(row["faster_than_loop"]) >= 10.0


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["vgg_head", "uci"])
def test_memory_is_flat_in_the_number_of_samples(workload: str) -> None:
    row = memory.measure(workload)
    assert float(row["ratio"]) <= 1.2
    assert float(row["growth_mib"]) <= 20


@pytest.mark.slow
def test_the_memory_measurement_sees_a_leak() -> None:
    _, small = memory.peak("uci", 100)
    _, large = memory.peak("uci", 10_000, hoard="torch.ones(2**18)")  # a MiB a chunk
    assert large - small > 100 * 2**20


def test_the_working_set_does_not_grow_with_the_samples() -> None:
    """The chunk, which is all that a prediction holds, is the same for 100 and 10,000 samples."""
    import mcdrop

    work = workloads.uci()
    mc = mcdrop.MCDropout(work.module, work.x, task="regression")
    assert mc._engine.plan({"input": work.x}).samples <= 100
