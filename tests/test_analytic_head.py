"""`analytic_head=True` as users meet it: fewer samples, the same answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mcdrop

HEAD = {"task": "regression", "analytic_head": True}


@pytest.fixture(scope="module")
def one_site() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2)).eval()


@pytest.fixture(scope="module")
def two_sites() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Dropout(0.2), nn.Linear(4, 64), nn.Tanh(), nn.Dropout(0.3), nn.Linear(64, 2)
    ).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(3))


def test_a_net_with_one_site_needs_no_samples(one_site: nn.Sequential, x: Tensor) -> None:
    mc = mcdrop.MCDropout(one_site, x, **HEAD)
    p = mc.predict(x)
    hidden = one_site[1](one_site[0](x)).double()
    weight = one_site[3].weight.double()
    variance = (hidden.square() @ weight.square().T) * 0.3 / 0.7
    torch.testing.assert_close(p.mean, one_site(x))
    torch.testing.assert_close(p.epistemic, variance.float(), rtol=1e-5, atol=1e-7)
    assert p.samples.tolist() == [0] * 9
    assert p.standard_error.eq(0).all()
    assert len(list(mc.stream(x))) == 1
    noisy = mcdrop.MCDropout(one_site, x, task=mcdrop.tasks.Regression(noise_variance=0.5),
                             analytic_head=True)  # fmt: skip
    torch.testing.assert_close(noisy.predict(x).variance, p.epistemic + 0.5)


@pytest.mark.parametrize("sampling", ["balanced", "iid"])
def test_sites_before_the_head_are_sampled(
    two_sites: nn.Sequential, x: Tensor, sampling: str
) -> None:
    """Against 200,000 samples of both sites, within six of their standard errors."""
    p = mcdrop.MCDropout(two_sites, x, sampling=sampling, **HEAD).predict(x, samples=20_000)
    plain = mcdrop.MCDropout(two_sites, x, task="regression", sampling="iid")
    reference = plain.predict(x, samples=200_000, seed=9)
    error = (p.standard_error.square() + reference.standard_error.square()).sqrt()
    assert ((p.mean - reference.mean) / error).abs().max() < 6
    # the relative error of a variance of n nearly normal samples is about sqrt(2 / n)
    torch.testing.assert_close(p.epistemic, reference.epistemic, rtol=0.06, atol=0)


def test_the_mean_has_less_error_for_the_same_samples(two_sites: nn.Sequential, x: Tensor) -> None:
    head = mcdrop.MCDropout(two_sites, x, sampling="iid", **HEAD).predict(x, samples=256)
    plain = mcdrop.MCDropout(two_sites, x, task="regression", sampling="iid")
    assert head.standard_error.sum() < 0.8 * plain.predict(x, samples=256).standard_error.sum()


def test_engines_agree_on_what_is_left(two_sites: nn.Sequential, x: Tensor) -> None:
    loop, auto = (
        mcdrop.MCDropout(two_sites, x, engine=engine, **HEAD).predict(x, samples=48, seed=4)
        for engine in ("loop", "auto")
    )
    for name, value in loop.fields().items():
        torch.testing.assert_close(auto.fields()[name], value, rtol=1e-4, atol=1e-6)


def test_samples_artifacts_and_off_are_those_of_the_whole_model(
    one_site: nn.Sequential, x: Tensor, tmp_path: Path
) -> None:
    mc = mcdrop.MCDropout(one_site, x, **HEAD)
    plain = mcdrop.MCDropout(one_site, x, task="regression")
    torch.testing.assert_close(mc.sample(x, samples=6, seed=1), plain.sample(x, samples=6, seed=1))
    torch.testing.assert_close(mc.deterministic(x), one_site(x))
    mc.save(tmp_path / "net", name="net")
    loaded = mcdrop.load(tmp_path / "net", analytic_head=True)
    torch.testing.assert_close(loaded.predict(x).epistemic, mc.predict(x).epistemic)
    assert mcdrop.load(tmp_path / "net").predict(x).samples[0] == 64


@pytest.mark.parametrize("task", ["classification", "gaussian", "binary"])
def test_tasks_that_are_not_affine_are_refused(
    one_site: nn.Sequential, x: Tensor, task: str
) -> None:
    with pytest.raises(mcdrop.InputError, match=r"analytic_head takes .*task='regression'"):
        mcdrop.MCDropout(one_site, x, task=task, analytic_head=True)


def test_what_stands_in_the_way_is_named(x: Tensor) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 8), nn.ReLU())
    with pytest.raises(mcdrop.InputError, match="relu"):
        mcdrop.MCDropout(net, x, **HEAD)
    with pytest.raises(mcdrop.InputError, match="eager"):
        mcdrop.MCDropout(net, x, engine="eager", **HEAD)


def test_a_plan_of_no_samples_is_still_printed(one_site: nn.Sequential, x: Tensor) -> None:
    mc = mcdrop.MCDropout(one_site, x, **HEAD)
    assert "closed form, no samples" in str(mc.plan)
    assert mc.engine == "closed form"
