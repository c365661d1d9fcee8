"""What every layer of the family keeps, whatever its technique is."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import layers
from tests.layers.family import FAMILY, Member, net

members = pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY.keys())
# Eager draws and traced ones round alike; batched products do not.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_every_layer_is_here() -> None:
    made = {name.partition("-")[0] for name in FAMILY}
    exported = {
        name
        for name in layers.__all__
        if inspect.isclass(getattr(layers, name)) and issubclass(getattr(layers, name), nn.Module)
    }
    assert made == exported


@members
def test_evaluation_is_one_answer_and_training_is_not(member: Member) -> None:
    model, x = net(member), member.example(5)
    torch.manual_seed(1)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


@members
def test_state_copies_and_representation(member: Member) -> None:
    model, x = net(member).eval(), member.example(3)
    other = net(member, seed=7).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    assert model.site.extra_repr()
    assert type(model.site).__name__ in repr(model)


@members
def test_trains(member: Member) -> None:
    model, x = net(member), member.example(4)
    loss = model(x).square().mean() + mcdrop.regularization(model)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@members
def test_bfloat16(member: Member) -> None:
    model, x = net(member).to(torch.bfloat16), member.example(4, torch.bfloat16)
    for mode in (True, False):
        y = model.train(mode)(x)
        assert y.dtype == torch.bfloat16
        assert y.isfinite().all()


@members
def test_capture_finds_it(member: Member) -> None:
    model, x = net(member), member.example(3)
    program = mcdrop.capture(model, x)
    assert tuple(site.kind for site in program.sites) == member.kinds
    assert [site.name for site in program.sites] == ["site"] * len(program.sites) or member.kinds
    rate = getattr(model.site, "p", None)
    if rate is not None:
        assert [site.p for site in program.sites] == pytest.approx([rate] * len(program.sites))
    assert model.training


@members
@pytest.mark.parametrize("masks", ["shared", "independent"])
@pytest.mark.parametrize("sampling", ["balanced", "iid"])
def test_engines_agree(member: Member, masks: str, sampling: str) -> None:
    model, x = net(member), member.example(5)
    found = {
        engine: mcdrop.MCDropout(
            model, x, task="regression", engine=engine, masks=masks, sampling=sampling
        )
        for engine in ("loop", "batched", "eager", "auto")
    }
    expected = found["loop"].sample(x, samples=20, seed=3)
    assert expected.std(0).max() > 1e-3
    for name, mc in found.items():
        torch.testing.assert_close(mc.sample(x, samples=20, seed=3), expected, **CLOSE, msg=name)
        torch.testing.assert_close(mc.deterministic(x), model.eval()(x), **CLOSE)
        model.train()


@members
def test_travels_in_an_artifact(member: Member, tmp_path: Path) -> None:
    model, x = net(member), member.example(3)
    mc = mcdrop.MCDropout(model, x, task="regression")
    mc.save(tmp_path / "1", name="net")
    loaded = mcdrop.load(tmp_path / "1")
    torch.testing.assert_close(
        loaded.sample(x, samples=20, seed=1), mc.sample(x, samples=20, seed=1), **CLOSE
    )
    torch.testing.assert_close(loaded.deterministic(x), mc.deterministic(x), **CLOSE)
    assert [site.kind for site in loaded.program.sites] == list(member.kinds)


@members
def test_a_site_that_is_left_out_is_off(member: Member) -> None:
    model, x = net(member), member.example(3)
    both = nn.Sequential(model, nn.Dropout(0.3))
    mc = mcdrop.MCDropout(both, x, task="regression", sites=["1"])
    samples = mc.sample(x, samples=16)
    kept = samples != 0
    expected = (model.eval()(x) / 0.7).expand_as(samples)
    torch.testing.assert_close(samples[kept], expected[kept], **CLOSE)
