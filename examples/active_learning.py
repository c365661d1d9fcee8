"""Ask for the labels that teach most: active learning by what the model does not know.

A classifier of handwritten digits starts with a few labels and a pool of images without. In each
round it asks for the labels of the images that score highest, and is trained anew. Two thirds of
the pool are ambiguous: blends of two digits, whose label is one of the two by the toss of a coin.
The test images are digits alone. Three ways to score, each over the same few seeds:

- random: the baseline;
- entropy: total uncertainty, which a blend has however many of them are labelled;
- BALD: the mutual information (Houlsby et al. 2011; Gal, Islam & Ghahramani 2017), the part of that
  uncertainty on which the Monte Carlo samples disagree, and which labels can take away.

Entropy asks for blends more often than chance does, BALD less often, and BALD ends with the best
accuracy. What is printed says by how much: differences are between ways with the same seed.

    python examples/active_learning.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mcdrop

WAYS = ("random", "entropy", "BALD")
CLEAN, BLENDS = 500, 1000  # images of the pool; what is left of the digits is for the test
START, ASK = 20, 20  # labels to begin with, and labels asked for in a round
PAIRS = (("entropy", "random"), ("BALD", "random"), ("BALD", "entropy"))
COLOURS = {"random": "#8a8f98", "entropy": "#d9822b", "BALD": "#1f4e8c"}


def load(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Pool and test, each images `[N, 64]` and labels `[N]`; the pool's last rows are blends."""
    bunch = load_digits()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(bunch.data), generator=generator)
    x = torch.tensor(bunch.data, dtype=torch.float32)[order] / 16
    y = torch.tensor(bunch.target)[order]
    one, other = torch.randint(CLEAN, (2, 2 * BLENDS), generator=generator)
    apart = y[one] != y[other]
    one, other = one[apart][:BLENDS], other[apart][:BLENDS]
    coin = torch.rand(BLENDS, generator=generator) < 0.5
    images = torch.cat([x[:CLEAN], (x[one] + x[other]) / 2])
    labels = torch.cat([y[:CLEAN], torch.where(coin, y[one], y[other])])
    return (images, labels), (x[CLEAN:], y[CLEAN:])


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
    p = mc.predict(x, samples=32, seed=0)
    return p.entropy if way == "entropy" else p.mutual_information


def learn(way: str, seed: int, rounds: int) -> tuple[list[float], float]:
    """Accuracy on the test rows after each round, and the share of blends among what was asked.

    A label of the pool is seen when it was asked for.
    """
    (x, y), test = load(seed)
    torch.manual_seed(seed)
    labelled = torch.zeros(len(x), dtype=torch.bool)
    labelled[torch.randperm(len(x))[:START]] = True  # the same for each way
    before, accuracies = labelled.clone(), []
    for done in range(rounds + 1):
        model = train(x[labelled], y[labelled])
        # "eager" runs the module as it is: tracing would not pay for a model of a single round
        mc = mcdrop.MCDropout(model, x[:1], task="classification", engine="eager")
        correct = mc.predict(test[0], samples=16).mean.argmax(1) == test[1]
        accuracies.append(correct.float().mean().item())
        if done < rounds:
            wanted = scores(way, mc, x)
            labelled[wanted.masked_fill(labelled, -torch.inf).topk(ASK).indices] = True
    asked = (labelled & ~before).nonzero()[:, 0]
    return accuracies, (asked >= CLEAN).double().mean().item()


def with_error(values: Tensor, unit: str = "") -> str:
    """The mean of values in percent, over seeds `[seeds]`, with its standard error."""
    sign = "+" if unit else ""
    mean, error = 100 * values.mean().item(), 100 * values.std().item() / len(values) ** 0.5
    return f"{mean:{sign}.1f}{unit or '%'} ± {error:.1f}{unit or '%'}"


def report(results: dict[str, Tensor], blends: dict[str, Tensor]) -> None:
    """Print accuracies `[seeds, rounds + 1]`, shares of blends `[seeds]`, and differences."""
    seeds, number = results["random"].shape
    print(f"{'labels':>7}", *(f"{way:>16}" for way in WAYS))
    for done in range(0, number, 2):
        cells = (with_error(values[:, done]) for values in results.values())
        print(f"{START + ASK * done:>7}", *(f"{cell:>16}" for cell in cells))
    print(f"blends: {BLENDS / (CLEAN + BLENDS):.0%} of the pool")
    for way, shares in blends.items():
        print(f"{way}: blends are {with_error(shares)} of the labels asked for")
    print(f"differences of accuracy in points, seed by seed (mean ± standard error of {seeds}):")
    for one, other in PAIRS:
        apart = results[one] - results[other]
        last, whole = (with_error(part, " ") for part in (apart[:, -1], apart.mean(1)))
        print(f"{one} less {other}: {last}at the end, {whole}on average over all rounds")


def draw(results: dict[str, Tensor], path: Path) -> None:
    """Left, mean accuracy over labels; right, differences with their standard errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), dpi=110, layout="constrained")
    seeds, number = results["random"].shape
    labels = START + ASK * torch.arange(number)
    for way, values in results.items():
        left.plot(labels, 100 * values.mean(0), "o-", color=COLOURS[way], ms=4, label=way)
    left.set(xlabel="labels", ylabel="test accuracy, %")
    left.set_title(f"Accuracy, mean of {seeds} seeds", loc="left")
    for other, colour in (("random", "#2a7f62"), ("entropy", "#7b3f8c")):
        apart = 100 * (results["BALD"] - results[other])
        mean, error = apart.mean(0), apart.std(0) / seeds**0.5
        right.fill_between(labels, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
        right.plot(labels, mean, "o-", color=colour, ms=4, label=f"BALD less {other}")
    right.axhline(0, color="#444", lw=0.8, ls=":")
    right.set(xlabel="labels", ylabel="difference, points")
    right.set_title("Differences seed by seed, mean ± standard error", loc="left")
    for axes, place in ((left, "lower right"), (right, "upper left")):
        axes.legend(frameon=False, loc=place)
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
    torch.set_num_threads(1)  # sums in one order, the same figures everywhere; enough for this net
    seeds, rounds = (3, 5) if arguments.quick else (6, 8)
    results, blends = {}, {}
    for way in WAYS:
        runs = [learn(way, seed, rounds) for seed in range(seeds)]
        results[way] = torch.tensor([accuracies for accuracies, _ in runs])
        blends[way] = torch.tensor([share for _, share in runs])
    report(results, blends)
    draw(results, arguments.output / "active_learning.png")
    print(f"drawn: {arguments.output / 'active_learning.png'}")


if __name__ == "__main__":
    main()
