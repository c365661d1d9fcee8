"""Ask for the labels that teach most: active learning by what the model does not know.

A classifier of handwritten digits starts with a few labels and a pool of images without. In each
round it asks for the labels of the images that score highest, and is trained anew. Three ways to
score, each over the same few seeds:

- random: the baseline;
- entropy: total uncertainty, which ambiguous images have, too, however many of them are labelled;
- BALD: the mutual information (Houlsby et al. 2011; Gal, Islam & Ghahramani 2017), the part of that
  uncertainty on which the Monte Carlo samples disagree, and which labels can take away.

Both beat chance. Between the two there is little here: few of these digits are ambiguous.

    python examples/active_learning.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.demo.data import digits

WAYS = ("random", "entropy", "BALD")
START, ASK = 20, 10  # labels to begin with, and labels asked for in a round
TARGET = 0.9


def network() -> nn.Sequential:
    """Images `[B, 64]` to logits `[B, 10]`."""
    return nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def train(x: Tensor, y: Tensor, steps: int = 200) -> nn.Module:
    """A new network, fitted to what is labelled so far."""
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def scores(way: str, mc: mcdrop.MCDropout, x: Tensor) -> Tensor:
    """How much a label of each image is wanted, `[B]`."""
    if way == "random":
        return torch.rand(len(x))
    p = mc.predict(x, samples=64, seed=0)
    return p.entropy if way == "entropy" else p.mutual_information


def learn(
    way: str, pool: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int, rounds: int
) -> list[float]:
    """Accuracy on the test rows after each round; a label of the pool is seen when asked for."""
    x, y = pool
    torch.manual_seed(seed)
    labelled = torch.zeros(len(x), dtype=torch.bool)
    labelled[torch.randperm(len(x))[:START]] = True  # the same for each way
    accuracies = []
    for done in range(rounds + 1):
        model = train(x[labelled], y[labelled])
        # "eager" runs the module as it is: tracing would not pay for a model of a single round
        mc = mcdrop.MCDropout(model, x[:1], task="classification", engine="eager")
        correct = mc.predict(test[0], samples=32).mean.argmax(1) == test[1]
        accuracies.append(correct.float().mean().item())
        if done < rounds:
            wanted = scores(way, mc, x)
            labelled[wanted.masked_fill(labelled, -torch.inf).topk(ASK).indices] = True
    return accuracies


def labels_needed(accuracies: Tensor, target: float) -> str:
    """Labels after which the mean accuracy `[rounds + 1]` first reaches a target."""
    reached = (accuracies >= target).nonzero()
    return str(START + ASK * int(reached[0])) if len(reached) else "more than asked for"


def draw(results: dict[str, Tensor], path: Path) -> None:
    """Mean accuracy over labels, with a standard error over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), dpi=110, layout="constrained")
    for (way, values), colour in zip(
        results.items(), ("#8a8f98", "#d9822b", "#1f4e8c"), strict=True
    ):
        labels = START + ASK * torch.arange(values.shape[1])
        mean, error = values.mean(0), values.std(0) / len(values) ** 0.5
        axes.fill_between(labels, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        axes.plot(labels, mean, "o-", color=colour, ms=4, label=way)
    axes.axhline(TARGET, color="#444", lw=0.8, ls=":")
    axes.set(xlabel="labels", ylabel="test accuracy")
    seeds = len(next(iter(results.values())))
    axes.set_title(f"Digits: which labels to ask for (mean ± s.e. of {seeds} seeds)", loc="left")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(color="#e6e8eb", lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Learn in each way from each seed, report."""
    parser = argparse.ArgumentParser(description="active learning on digits")
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="few seeds and rounds: a test")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    seeds, rounds = (2, 2) if arguments.quick else (5, 12)
    split = digits()
    pool, test = (
        (torch.from_numpy(images).flatten(1), torch.from_numpy(labels))
        for images, labels in (split.train, split.test)
    )
    results = {
        way: torch.tensor([learn(way, pool, test, seed, rounds) for seed in range(seeds)])
        for way in WAYS
    }  # each [seeds, rounds + 1]
    print(f"{'labels':>7}", *(f"{way:>16}" for way in WAYS))
    for done in range(0, rounds + 1, 2):
        cells = (
            f"{v[:, done].mean():.1%} ± {v[:, done].std() / seeds**0.5:.1%}"
            for v in results.values()
        )
        print(f"{START + ASK * done:>7}", *(f"{cell:>16}" for cell in cells))
    for way, values in results.items():
        print(
            f"{way}: {values.mean():.2%} on average over all rounds, "
            f"{TARGET:.0%} with {labels_needed(values.mean(0), TARGET)} labels"
        )
    draw(results, arguments.output / "active_learning.png")
    print(f"drawn: {arguments.output / 'active_learning.png'}")


if __name__ == "__main__":
    main()
