"""Meta Dropout in the loops that it is made for: those of examples/meta_dropout.py."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

# by its path: another package named `examples` may be installed
example = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[2] / "examples" / "meta_dropout.py"))
)


@pytest.fixture
def parts():
    torch.manual_seed(0)
    model = example.network(width=8)
    theta, phi = example.split_parameters(model)
    x, y, query, target = torch.randn(3, 64), torch.arange(3), torch.randn(6, 64), torch.arange(6)
    return model, theta, phi, (x[None], y[None], query[None], target[None] % 3)


def test_the_parameters_are_told_apart(parts):
    model, theta, phi, _ = parts
    assert len(phi) == 4
    assert all(".noise." in f".{name}" for name in phi)
    assert {**theta, **phi}.keys() == dict(model.named_parameters()).keys()


def test_the_meta_gradient_reaches_the_noise(parts):
    model, theta, phi, tasks = parts
    logits = example.query_logits(model, theta, phi, tasks, 1)
    F.cross_entropy(logits[0], tasks[3][0]).backward()
    for name, value in (theta | phi).items():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_the_noise_is_learned_through_the_adapted_weights_too(parts):
    """Not only through the mean that stands in the query's pass: there φ is held fixed here."""
    model, theta, phi, (x, y, query, target) = parts
    adapted = example.adapt(model, theta, phi, x[0], y[0], 1)
    fixed = {name: value.detach() for name, value in phi.items()}
    model.eval()
    logits = torch.func.functional_call(model, adapted | fixed, (query[0],))
    gradients = torch.autograd.grad(F.cross_entropy(logits, target[0]), list(phi.values()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_adaptation_leaves_the_noise_parameters_alone(parts):
    model, theta, phi, (x, y, *_) = parts
    before = {name: value.detach().clone() for name, value in (theta | phi).items()}
    adapted = example.adapt(model, theta, phi, x[0], y[0], 1)
    assert adapted.keys() == theta.keys()
    assert all(not torch.equal(adapted[name], theta[name]) for name in theta)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name


def test_the_noise_is_on_while_adapting_and_off_for_the_queries(parts):
    model, theta, phi, (x, y, *_) = parts
    first, second = (example.adapt(model, theta, phi, x[0], y[0], 1) for _ in range(2))
    assert any(not torch.equal(first[name], second[name]) for name in theta)
    first, second = (example.adapt(model, theta, phi, x[0], y[0], 0) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in theta)
    example.query_logits(model, theta, phi, parts[3], 1)
    assert not model.training
