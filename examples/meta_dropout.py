"""Few-shot learning with Meta Dropout: noise that learns, across tasks, how to help within one.

MAML (Finn et al. 2017) learns weights θ from which a few gradient steps on a handful of examples
solve a new task. Meta Dropout (Lee et al. 2020) multiplies features by noise during those steps;
the noise's own parameters φ are *not* adapted within a task, but learned across tasks: the outer
loop asks which noise makes the adapted network right about examples it has not seen. When these are
classified, the noise is off.

A task here is to tell three digits apart, each seen once. Meta-training takes its tasks from seven
classes, meta-testing from the three others; which three differs from split to split. Seven classes
are very few to learn across, the paper has 64 and more: do not expect its gains here. Three sides
run the same code on the same tasks:

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
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mcdrop.layers import MetaDropout

WAYS, SHOTS, QUERIES = 3, 1, 10
STEPS, RATE = 3, 0.4  # of the inner loop
TRAIN_DRAWS, TEST_DRAWS = 1, 30  # of the noise in each of its steps
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
    model: nn.Module, theta: Parameters, phi: Parameters, x: Tensor, y: Tensor, draws: int
) -> Parameters:
    """The inner loop: θ after a few steps on a task's examples, differentiable in θ and φ.

    `draws` of the noise are averaged in each step; 0 for none.
    """
    x, y = x.repeat(max(draws, 1), 1), y.repeat(max(draws, 1))  # each row has noise of its own

    def loss(theta: Parameters) -> Tensor:
        return F.cross_entropy(functional_call(model, theta | phi, (x,)), y)

    model.train(draws > 0)  # MetaDropout is noisy in training mode; nothing else here has modes
    for _ in range(STEPS):
        steps = grad(loss)(theta)
        theta = {name: value - RATE * steps[name] for name, value in theta.items()}
    return theta


def query_logits(
    model: nn.Module, theta: Parameters, phi: Parameters, tasks: tuple[Tensor, ...], draws: int
) -> Tensor:
    """Adapt to each task; logits of its queries, noise off: `[T, WAYS * QUERIES, WAYS]`."""

    def of_task(x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        adapted = adapt(model, theta, phi, x, y, draws)
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
        logits = query_logits(model, theta, phi, tasks, TRAIN_DRAWS * noise)
        loss = F.cross_entropy(logits.flatten(0, 1), tasks[3].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


@torch.no_grad()
def phi_moved(model: nn.Module, seed: int) -> float:
    """How far φ is from where the seed began, root mean square over its numbers."""
    torch.manual_seed(seed)
    began, now = (split_parameters(each)[1] for each in (network(), model))
    apart = torch.cat([(now[name] - began[name]).flatten() for name in now])
    return apart.square().mean().sqrt().item()


@torch.no_grad()
def meta_test(model: nn.Module, tasks: tuple[Tensor, ...], side: str) -> Tensor:
    """Accuracy on the queries of each task, `[T]`."""
    theta, phi = split_parameters(model)
    logits = query_logits(model, theta, phi, tasks, TEST_DRAWS * SIDES[side][0])
    return (logits.argmax(-1) == tasks[3]).float().mean(1)


def report(accuracies: dict[str, Tensor]) -> None:
    """Print each side's accuracy `[splits, T]`, and how far it is from MAML's."""
    splits = len(accuracies["MAML"])
    for side, values in accuracies.items():
        by_split = values.mean(1)
        print(f"{side}: {by_split.mean():.1%} ± {by_split.std() / splits**0.5:.1%}", end="")
        if side == "MAML":
            print(f" (mean ± standard error of {splits} splits of the classes)")
            continue
        apart = by_split - accuracies["MAML"].mean(1)
        error = apart.std() / splits**0.5
        clear = "clear" if apart.mean().abs() > 2 * error else "not clear"
        print(f"; apart from MAML {100 * apart.mean():+.1f} ± {100 * error:.1f} points: {clear}")


def draw(accuracies: dict[str, Tensor], path: Path) -> None:
    """A line for each split, from side to side, and the means with their standard errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.6), dpi=110, layout="constrained")
    by_split = torch.stack([values.mean(1) for values in accuracies.values()])  # [sides, splits]
    axes.plot(by_split, "o-", color="#c8ccd2", ms=4, lw=1)
    axes.errorbar(
        range(len(accuracies)),
        by_split.mean(1),
        yerr=by_split.std(1) / by_split.shape[1] ** 0.5,
        fmt="o",
        color="#1f4e8c",
        ms=7,
        capsize=5,
        zorder=3,
        label="mean ± standard error",
    )
    axes.axhline(1 / WAYS, color="#444", lw=0.8, ls=":", label="chance")
    axes.set_xticks(range(len(accuracies)), accuracies)
    axes.set_xlim(-0.4, len(accuracies) - 0.6)
    axes.set_ylim(top=float(by_split.max()) + 0.12)
    axes.set_ylabel(f"accuracy, {WAYS}-way {SHOTS}-shot")
    axes.set_title("Digits never meta-trained on; a line is a split of the classes", loc="left")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Meta-train and meta-test each side on each split of the classes, report."""
    parser = argparse.ArgumentParser(description="few-shot learning with Meta Dropout")
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="few splits and tasks: a test")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    splits, iterations, count = (2, 60, 50) if arguments.quick else (10, 150, 200)
    bunch = load_digits()  # meta-learning splits by class, not by row: all of them
    images = torch.tensor(bunch.data, dtype=torch.float32) / 16
    labels = torch.tensor(bunch.target)

    accuracies: dict[str, list[Tensor]] = {side: [] for side in SIDES}
    moved: dict[str, list[float]] = {side: [] for side in SIDES}
    for split in range(splits):
        generator = torch.Generator().manual_seed(split)
        classes = torch.randperm(10, generator=generator)
        known, unknown = classes[WAYS:], classes[:WAYS]
        tasks = draw_tasks(images, labels, unknown, count, generator)
        for side in SIDES:
            model = meta_train(images, labels, known, side, split, iterations)
            accuracies[side].append(meta_test(model, tasks, side))
            moved[side].append(phi_moved(model, split))
    stacked = {side: torch.stack(values) for side, values in accuracies.items()}
    report(stacked)
    for side, distances in moved.items():
        print(f"φ of {side}: moved by {sum(distances) / splits:.3f} (root mean square)")
    draw(stacked, arguments.output / "meta_dropout.png")
    print(f"drawn: {arguments.output / 'meta_dropout.png'}")


if __name__ == "__main__":
    main()
