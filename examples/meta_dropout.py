"""Few-shot learning with Meta Dropout: noise that learns, across tasks, how to help within one.

MAML (Finn et al. 2017) learns weights θ from which a few gradient steps on a handful of examples
solve a new task. Meta Dropout (Lee et al. 2020) multiplies features by noise during those steps; the
noise's own parameters φ are *not* adapted within a task, but learned across tasks: the outer loop
asks which noise makes the adapted network right about examples it has not seen. When these are
classified, the noise is off.

A task here is to tell three digits apart, each seen once. Meta-training takes its tasks from seven
classes, meta-testing from the three others; which three differs from split to split. Three sides run
the same code on the same tasks:

- MAML: no noise, φ left alone;
- gates: no noise, but φ learned: what the additional parameters do without being noise;
- Meta Dropout: noise, and φ learned.

    python examples/meta_dropout.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mcdrop.demo.data import digits
from mcdrop.layers import MetaDropout

WAYS, SHOTS, QUERIES = 3, 1, 10
STEPS, RATE = 5, 0.2  # of the inner loop
SIDES = {"MAML": (False, False), "gates": (False, True), "Meta Dropout": (True, True)}
Parameters = dict[str, Tensor]


def network(width: int = 64) -> nn.Sequential:
    """Images `[B, 64]` to logits `[B, WAYS]`."""
    return nn.Sequential(
        MetaDropout(nn.Linear(64, width)),
        nn.ReLU(),
        MetaDropout(nn.Linear(width, width)),
        nn.ReLU(),
        nn.Linear(width, WAYS),
    )


def split_parameters(model: nn.Module) -> tuple[Parameters, Parameters]:
    """θ, which the inner loop adapts, and φ, which it leaves alone; both by name."""
    phi = {
        f"{name}.{key}": value
        for name, layer in model.named_modules()
        if isinstance(layer, MetaDropout)
        for key, value in layer.noise_parameters().items()
    }
    return {n: p for n, p in model.named_parameters() if n not in phi}, phi


def adapt(
    model: nn.Module, theta: Parameters, phi: Parameters, x: Tensor, y: Tensor, noise: bool
) -> Parameters:
    """The inner loop: θ after a few steps on a task's examples, differentiable in θ and φ."""

    def loss(theta: Parameters) -> Tensor:
        return F.cross_entropy(functional_call(model, theta | phi, (x,)), y)

    model.train(noise)  # MetaDropout is noisy in training mode; nothing else here has modes
    for _ in range(STEPS):
        steps = grad(loss)(theta)
        theta = {name: value - RATE * steps[name] for name, value in theta.items()}
    return theta


def query_logits(
    model: nn.Module, theta: Parameters, phi: Parameters, tasks: tuple[Tensor, ...], noise: bool
) -> Tensor:
    """Adapt to each task and classify its queries, noise off: `[T, WAYS * QUERIES, WAYS]`."""

    def of_task(x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        adapted = adapt(model, theta, phi, x, y, noise)
        model.eval()
        out: Tensor = functional_call(model, adapted | phi, (query,))
        return out

    return vmap(of_task, randomness="different")(*tasks[:3])


def draw_tasks(
    images: Tensor, labels: Tensor, classes: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """`count` tasks: shots `[T, WAYS * SHOTS, 64]`, their labels, queries, and theirs."""
    places = {int(c): (labels == c).nonzero()[:, 0] for c in classes}
    taken = []
    for _ in range(count):
        chosen = classes[torch.randperm(len(classes), generator=generator)[:WAYS]]
        for c in chosen.tolist():
            order = torch.randperm(len(places[c]), generator=generator)[: SHOTS + QUERIES]
            taken.append(places[c][order])
    drawn = images[torch.stack(taken)].unflatten(0, (count, WAYS))  # [T, WAYS, SHOTS+QUERIES, 64]
    way = torch.arange(WAYS)
    return (
        drawn[:, :, :SHOTS].flatten(1, 2),
        way.repeat_interleave(SHOTS).expand(count, -1),
        drawn[:, :, SHOTS:].flatten(1, 2),
        way.repeat_interleave(QUERIES).expand(count, -1),
    )


def meta_train(
    images: Tensor, labels: Tensor, classes: Tensor, side: str, seed: int, iterations: int
) -> nn.Module:
    """The outer loop: θ, and φ where the side learns it, by Adam through the inner loop."""
    noise, learn_phi = SIDES[side]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)  # of tasks: the same for every side
    model = network()
    theta, phi = split_parameters(model)
    learned = [*theta.values(), *(phi.values() if learn_phi else ())]
    optimiser = torch.optim.Adam(learned, lr=2e-3)
    for _ in range(iterations):
        tasks = draw_tasks(images, labels, classes, 8, generator)
        logits = query_logits(model, theta, phi, tasks, noise)
        loss = F.cross_entropy(logits.flatten(0, 1), tasks[3].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def meta_test(model: nn.Module, tasks: tuple[Tensor, ...], side: str) -> Tensor:
    """Accuracy on the queries of each task, `[T]`."""
    theta, phi = split_parameters(model)
    logits = query_logits(model, theta, phi, tasks, SIDES[side][0])
    return (logits.argmax(-1) == tasks[3]).float().mean(1)
