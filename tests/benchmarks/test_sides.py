"""The sides do what their names say."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks import coverage, rounds, sides, speed, workloads
from benchmarks.sides import Side
from benchmarks.workloads import Workload


class Normed(nn.Module):
    """Dropout, both kinds of normalisation that look at the batch, and a mode that is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.instance = nn.InstanceNorm1d(4, track_running_stats=True)
        self.modes: list[tuple[bool, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.norm, self.instance, self.drop)
        self.modes.append(tuple(part.training for part in parts))
        return self.drop(self.instance(self.norm(x).unsqueeze(-1).expand(-1, -1, 3)).mean(-1))


def test_the_naive_ways_leave_normalisation_in_evaluation_mode() -> None:
    module = Normed().eval()
    work = Workload("normed", "", module, torch.randn(6, 4), samples=5)
    ways = sides.naive(work)
    inner = ways[0].run.__closure__[0].cell_contents
    assert isinstance(inner, Normed)
    before = copy.deepcopy(inner.state_dict())
    for way in ways:
        mean, variance = way.run(work.x)
        assert mean.shape == variance.shape == (6, 4)
        assert (variance > 0).any()
    assert set(inner.modes) == {(False, False, True)}
    assert not any(part.training for part in inner.modules())
    assert all(torch.equal(inner.state_dict()[name], value) for name, value in before.items())
    assert module.modes == []  # the workload's own module is not what they run


def test_naive_ways_and_mcdrop_agree() -> None:
    """Variances over 51 rows of 2,000 samples: within 10%, about four standard errors of each."""
    work = workloads.uci(2000)
    torch.manual_seed(0)
    ways = {side.label: side for side in (*sides.naive(work), *sides.ours(work)[0])}
    with torch.no_grad():
        found = {label: side.run(work.x) for label, side in ways.items()}
    assert set(ways) == {rounds.LOOP, "naive: rows repeated", rounds.WARM, rounds.FRESH}
    truth = found[rounds.LOOP]
    for mean, variance in found.values():
        assert float(variance.mean() / truth[1].mean()) == pytest.approx(1.0, abs=0.1)
        assert (mean - truth[0]).abs().max() < 6 * (2 * truth[1].max() / 2000).sqrt()


def test_a_new_seed_is_taken_each_time() -> None:
    work = workloads.uci(16)
    (warm, fresh), _ = sides.ours(work)
    assert torch.equal(warm.run(work.x)[0], warm.run(work.x)[0])
    assert not torch.equal(fresh.run(work.x)[0], fresh.run(work.x)[0])


def test_draws_are_counted() -> None:
    work = workloads.build("lstm")
    loop = sides.naive(work)[0]
    between, behind = 32 * 16 * 128, 16 * 128
    assert coverage.draws(loop.run, work.x) == 100 * (between + behind)
    assert coverage.draws(sides.deterministic(work).run, work.x) == 0


def test_what_a_side_misses_is_said() -> None:
    assert coverage.note(1.0, 0.97, 1.2) == ""
    assert "samples nothing" in coverage.note(0.0, 0.0, 0.7)
    assert "3% of the random numbers" in coverage.note(0.03, 1.0, 1.0)
    assert "variance 0.50" in coverage.note(1.0, 0.5, 1.0)
    assert "mean off by 9.0" in coverage.note(1.0, 1.0, 9.0)


def _waiting(name: str, calls: list[str], error: Exception | None = None) -> Side:
    def run(x: Tensor) -> sides.Moments:
        calls.append(name)
        if error is not None:
            raise error
        return x, torch.ones_like(x)

    return Side(name, "loop", run)


def test_rounds_are_interleaved_and_a_peers_failure_is_a_result() -> None:
    calls: list[str] = []
    work = workloads.uci(4)
    ran = [_waiting("naive", calls), _waiting("baal", calls, AttributeError("no weight"))]
    timings = rounds.run([*ran, _waiting("mcdrop", calls)], work, 2)
    assert timings["baal: loop"].error == "fails: AttributeError: no weight"
    warming, timed = ["mcdrop", "naive", "baal"], ["naive", "mcdrop", "mcdrop", "naive"]
    assert calls == warming + timed  # the order turns, and who failed is not asked again
    assert len(timings["naive: loop"].seconds) == 2
    broken = _waiting("mcdrop", calls, ValueError("ours"))
    with pytest.raises(ValueError, match="ours"):
        rounds.run([_waiting("naive", calls), broken], work, 1)


def test_a_row_of_results_holds_what_the_report_reads() -> None:
    row = speed.measure("uci", repeats=2, rate=1e11)
    assert row["samples"] == 100
    assert row["passes"] == pytest.approx(row["mcdrop_s"] / row["deterministic_s"], rel=0.9)
    assert row["passes_min"] <= row["passes"] <= row["passes_max"]
    assert row["best"].startswith(("naive", "baal", "torch-uncertainty"))
    assert row["faster_than_best"] <= row["faster_than_loop_max"]
    # 51 rows of 13 x 50 + 50 products, twice, a hundred times
    assert row["flops"] == 2 * 51 * (13 * 50 + 50)
    assert row["dense_flops_fraction"] == pytest.approx(100 * row["flops"] / row["mcdrop_s"] / 1e11)
    assert row["engine"] in {"loop", "batched", "thinned"}
