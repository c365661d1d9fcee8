"""The ratios that the project promises, each taken in one run on this machine."""

from __future__ import annotations

import pytest

from benchmarks import memory, sides, speed, workloads


@pytest.mark.slow
def test_a_hundred_samples_of_a_vgg_head_cost_at_most_five_passes() -> None:
    row = speed.measure("vgg_head", repeats=5, rate=1e11)
    assert row["passes"] <= 5.0
    assert row["faster_than_loop"] >= 10.0


@pytest.mark.slow
@pytest.mark.parametrize("workload", memory.WORKLOADS)
def test_memory_is_flat_in_the_number_of_samples(workload: str) -> None:
    row = memory.growth(workload)
    assert row["ratio"] <= 1.2
    assert row["growth_mib"] <= 64


@pytest.mark.slow
def test_a_prediction_takes_less_memory_than_repeated_rows() -> None:
    taken = memory.measure("vgg_head", 100)["taken_mib"]
    assert taken["mcdrop"] <= taken["naive: rows repeated"] / 10


@pytest.mark.slow
def test_the_memory_measurement_sees_a_leak() -> None:
    _, small = memory.peak("uci", 100)
    _, large = memory.peak("uci", 10_000, hoard="torch.ones(2**18)")  # a MiB a chunk
    assert large - small > 50 * 2**20


def test_the_working_set_does_not_grow_with_the_samples() -> None:
    """The chunk, which is all that a prediction computes at once, is bounded."""
    work = workloads.build("uci")
    mc = sides.montecarlo(work)
    mc.predict(work.x, samples=10_000)
    assert max(mc.plan.kept.samples, mc.plan.fresh.samples) <= 128
