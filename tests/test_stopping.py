"""Early stopping by tolerance: per row, in whole blocks, whatever the chunks and the company."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine import Plan, Planner, Way
from mcdrop.engine.sampler import ProgramSampler
from mcdrop.sampling import BLOCK
from mcdrop.summary import MIN_BLOCKS

FIRST = BLOCK * MIN_BLOCKS


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.4), nn.Linear(32, 3)).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Rows of growing size, and so of growing uncertainty; the first one has next to none."""
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    return x * torch.linspace(0.0, 4.0, 12)[:, None]


@pytest.mark.parametrize("sampling", ["balanced", "iid"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_rows_stop_when_their_error_is_small(
    net: nn.Sequential, x: Tensor, task: str, sampling: str
) -> None:
    mc = mcdrop.MCDropout(net, x, task=task, sampling=sampling)
    tolerance = mc.predict(x, samples=192).standard_error.flatten(1).amax(1).median().item()
    p = mc.predict(x, samples=512, tolerance=tolerance)
    assert (p.samples % BLOCK == 0).all()
    assert p.samples.min() >= FIRST
    assert len(p.samples.unique()) > 2, "rows stop one by one"
    errors = p.standard_error.flatten(1).amax(1)
    assert (errors[p.samples < 512] <= tolerance).all()
    assert p.samples[0] < p.samples[-1]


def test_no_row_stops_before_what_is_rare_can_have_happened() -> None:
    """At p = 0.002 each unit is dropped for the first time within 500 samples: 512 in blocks."""
    net = nn.Sequential(nn.Dropout(0.002), nn.Linear(4, 2)).eval()
    mc = mcdrop.MCDropout(net, torch.ones(1, 4), task="regression")
    p = mc.predict(torch.ones(1, 4), tolerance=1.0)
    assert p.samples.tolist() == [512]
    assert (p.epistemic > 0).all()


def test_a_stopped_row_is_what_its_samples_say(net: nn.Sequential, x: Tensor) -> None:
    """Each row equals the prediction of it alone, with as many samples as it used."""
    mc = mcdrop.MCDropout(net, x, task="classification")
    p = mc.predict(x, samples=400, tolerance=0.006)
    assert len(p.samples.unique()) > 2
    for row, samples in enumerate(p.samples.tolist()):
        alone = mc.predict(x[row : row + 1], samples=samples)
        for name, value in alone.fields().items():
            torch.testing.assert_close(
                p.fields()[name][row : row + 1], value, rtol=1e-4, atol=1e-5, msg=name
            )


@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_company_and_chunks_do_not_change_when_a_row_stops(
    net: nn.Sequential, x: Tensor, masks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mc = mcdrop.MCDropout(net, x, task="classification", masks=masks, engine="batched")
    whole = mc.predict(x, samples=400, tolerance=0.006)
    alone = [
        mc.predict(x[row : row + 1], samples=400, tolerance=0.006, first_row=row).samples.item()
        for row in range(len(x))
    ]
    assert alone == whole.samples.tolist()
    for rows, samples in ((5, 1), (12, 8), (3, 64)):
        plan = Plan(rows, Way("batched", samples), Way("batched", samples))
        monkeypatch.setattr(Planner, "plan", lambda *_, plan=plan: plan)
        chunked = mc.predict(x, samples=400, tolerance=0.006)
        assert chunked.samples.tolist() == whole.samples.tolist()
        torch.testing.assert_close(chunked.mean, whole.mean, rtol=1e-4, atol=1e-5)


def test_done_rows_leave_the_batch(
    net: nn.Sequential, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    original = Planner.open

    def watched(self: Planner, plan: Plan, inputs, seed: int, rows):
        opened.append(len(rows))
        return original(self, plan, inputs, seed, rows)

    mc = mcdrop.MCDropout(net, x, task="classification")
    monkeypatch.setattr(Planner, "open", watched)
    mc.predict(x, samples=2048, tolerance=0.004)
    assert opened[0] == len(x)
    assert len(opened) > 1
    assert all(b <= 0.75 * a for a, b in itertools.pairwise(opened))


def test_no_sample_is_computed_behind_the_first_look(
    net: nn.Sequential, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mc = mcdrop.MCDropout(net, x, task="classification", engine="batched")
    plan = Plan(16, Way("batched", 128), Way("batched", 128))
    monkeypatch.setattr(Planner, "plan", lambda *_: plan)
    computed: list[range] = []
    original = ProgramSampler.samples
    monkeypatch.setattr(
        ProgramSampler,
        "samples",
        lambda self, chunk: computed.append(chunk) or original(self, chunk),
    )
    mc.predict(x, samples=1024, tolerance=10.0)
    assert computed == [range(FIRST)]


def test_streams_stop_too(net: nn.Sequential, x: Tensor) -> None:
    mc = mcdrop.MCDropout(net, x, task="classification")
    partials = list(mc.stream(x, samples=1024, tolerance=0.02))
    whole = mc.predict(x, samples=1024, tolerance=0.02)
    assert partials[-1].samples.tolist() == whole.samples.tolist()
    assert partials[-1].samples.max() < 1024
    assert partials[0].samples.tolist() == [BLOCK] * len(x)
    torch.testing.assert_close(partials[-1].mean, whole.mean)


def test_progress_ends_at_the_total(net: nn.Sequential, x: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    mc = mcdrop.MCDropout(net, x, task="classification")
    mc.predict(x, samples=1024, tolerance=0.05, progress=lambda *step: seen.append(step))
    assert seen[-1] == (1024 * len(x), 1024 * len(x))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_with_a_tolerance_the_default_is_a_limit_of_1024(net: nn.Sequential, x: Tensor) -> None:
    mc = mcdrop.MCDropout(net, x, task="classification")
    assert mc.predict(x[-1:], tolerance=1e-9).samples.tolist() == [1024]


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf"), "0.1", True])
def test_bad_tolerances_are_refused(net: nn.Sequential, x: Tensor, tolerance: object) -> None:
    mc = mcdrop.MCDropout(net, x, task="classification")
    with pytest.raises(mcdrop.InputError, match="tolerance must be a number above 0"):
        mc.predict(x, tolerance=tolerance)
