"""Let a network decline to answer: what it finds hard, and what it has never seen.

A small network with dropout learns the digits 0 to 7. It is then asked about more of them, some
spoilt by noise; about the digits 8 and 9, which it can only get wrong; and about images of nothing,
their pixels shuffled. The script shows

- selective prediction: how the share of errors falls as the least sure images are left out (the
  risk-coverage curve), and a threshold at work that held-out images chose for a risk of 2%, which
  new images scatter around;
- detection of what is unlike the training data, by AUROC: the probability that such an image is
  more uncertain than one that is like them, 0.5 for guessing.

Three uncertainties compete: 1 less the largest probability of a single pass with dropout off, and
entropy and mutual information of Monte Carlo dropout. Each orders its own answers: those of the
single pass, or of the Monte Carlo mean. On problems as easy as this one they are
close, and a threshold on any of them beats answering everything.

It writes examples-output/selective_prediction.png, or into the folder that is named:

    python examples/selective_prediction.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop.calibration import Abstention
from mcdrop.layers import Dropout
from mcdrop.metrics.functional import (
    area_under_risk_coverage,
    detection_auroc,
    risk_at_coverage,
    risk_coverage,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEED = 0
KNOWN = 8  # classes: the digits 0 to 7
RISK = 0.02  # errors among the answers, at most
NAMES = ("max-probability, one pass", "entropy", "mutual information")


def load() -> tuple[Tensor, Tensor, Tensor]:
    """Images `[N, 64]` of the known digits with their classes `[N]`, and those of 8 and 9."""
    bunch = load_digits()
    images = torch.tensor(bunch.data, dtype=torch.float32) / 16
    classes = torch.tensor(bunch.target)
    order = torch.randperm(len(images))
    images, classes = images[order], classes[order]
    known = classes < KNOWN
    return images[known], classes[known], images[~known]


def spoil(images: Tensor) -> Tensor:
    """The images with noise, of a strength from none to much."""
    strength = torch.linspace(0.0, 0.5, len(images))[:, None]
    return (images + strength * torch.randn_like(images)).clamp(0, 1)


def shuffle(images: Tensor) -> Tensor:
    """The same pixels in other places, for each image anew."""
    return images.gather(1, torch.rand_like(images).argsort(1))


def network() -> nn.Sequential:
    """Two hidden layers; half of their units are dropped."""
    return nn.Sequential(
        nn.Linear(64, 256),
        nn.ReLU(),
        Dropout(0.5),
        nn.Linear(256, 256),
        nn.ReLU(),
        Dropout(0.5),
        nn.Linear(256, KNOWN),
    )


def train(net: nn.Module, images: Tensor, classes: Tensor, epochs: int) -> None:
    """An ordinary training loop: the layers drop because the network is in training mode."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            loss = F.cross_entropy(net(images[rows]), classes[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    net.eval()


@dataclass(frozen=True)
class Answers:
    """What is answered to images, and how unsure of it each measure is, by name of the measure.

    Attributes:
        classes: `[N]` each: of one pass for its measure, of the Monte Carlo mean for the others.
        unsure: `[N]` each.
    """

    classes: dict[str, Tensor]
    unsure: dict[str, Tensor]

    def wrong(self, truth: Tensor) -> dict[str, Tensor]:
        """1 where the answer is not the truth `[N]`, else 0."""
        return {name: (found != truth).double() for name, found in self.classes.items()}


def ask(mc: mcdrop.MCDropout, images: Tensor, samples: int) -> Answers:
    """One pass with dropout off, and Monte Carlo dropout, on images `[N, 64]`."""
    one_pass = mc.deterministic(images).softmax(1)
    prediction = mc.predict(images, samples=samples)
    # `predict` gives what the task calls for; type checkers see the general kind
    assert isinstance(prediction, mcdrop.ClassificationPrediction)
    measures = (1 - one_pass.amax(1), prediction.entropy, prediction.mutual_information)
    mean = prediction.mean.argmax(1)
    classes = (one_pass.argmax(1), mean, mean)
    return Answers(dict(zip(NAMES, classes, strict=True)), dict(zip(NAMES, measures, strict=True)))


def draw(
    wrong: dict[str, Tensor], noisy: dict[str, Tensor], shown: dict[str, Tensor], above: float
) -> Figure:
    """Left, risk over coverage; right, entropy of what is known and of what is not.

    Args:
        wrong: errors of each measure's answers to the noisy images, `[N]`.
        noisy: how unsure each measure is of them, `[N]`.
        shown: entropies, `[N]`, by what the images are.
        above: the threshold.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = (("0.55", "--"), ("tab:blue", "-"), ("tab:orange", "-"))
    for (name, values), (colour, style) in zip(noisy.items(), styles, strict=True):
        curve = risk_coverage(values, wrong[name])
        left.plot(100 * curve.coverage, 100 * curve.risk, c=colour, ls=style, label=name)
    errors = wrong["entropy"]
    best = risk_coverage(errors, errors)
    label = "Monte Carlo, best order there is"
    left.plot(100 * best.coverage, 100 * best.risk, c="0.2", lw=0.8, ls=":", label=label)
    left.set(xlabel="answered, %", ylabel="errors among the answers, %", xlim=(0, 100))
    left.set_ylim(bottom=0)
    left.set_title("It errs less where it may decline")
    left.legend(frameon=False, loc="upper left")

    edges = torch.linspace(0, float(torch.log(torch.tensor(float(KNOWN)))), 31).tolist()
    for (name, values), colour in zip(
        shown.items(), ("tab:green", "tab:purple", "tab:red"), strict=True
    ):
        entropy = values.clamp(0, edges[-1])
        share = torch.full_like(entropy, 100 / len(entropy))
        right.hist(entropy, edges, weights=share, histtype="step", color=colour, lw=1.8, label=name)
    right.axvline(above, color="0.3", lw=1, ls="--")
    right.text(above, 0.6, " declined →", transform=right.get_xaxis_transform(), color="0.3")
    right.set(xlabel="entropy, nats", ylabel="images, %", xlim=(0, edges[-1]))
    right.set_title("What it has never seen looks uncertain")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Train, ask, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="train less and sample less")
    options = parser.parse_args()
    epochs, samples = (10, 32) if options.quick else (80, 128)

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in one order: the same figures every time
    images, classes, unknown = load()
    net = network()
    train(net, images[:500], classes[:500], epochs)
    mc = mcdrop.MCDropout(net, images[:1], task="classification")

    # held-out images choose the threshold; test images, of which some are noisy, show its worth
    held_out, clean = images[500:950], images[950:]
    found = ask(mc, spoil(held_out), samples)
    held_out_wrong = found.wrong(classes[500:950])["entropy"]
    policy = Abstention.at_risk(found.unsure["entropy"], held_out_wrong, risk=RISK)
    found = ask(mc, spoil(clean), samples)
    noisy, wrong = found.unsure, found.wrong(classes[950:])
    mean_wrong, declined = wrong["entropy"], policy(noisy["entropy"])
    print(f"wrong, all {len(clean)} test images answered: {mean_wrong.mean():.1%}")
    print(f"wrong, all of them answered by one pass: {wrong[NAMES[0]].mean():.1%}")
    print(f"threshold for a risk of {RISK:.0%}: entropy {policy.abstain_above:.3f} nats")
    print(f"answered: {(~declined).double().mean():.1%}, wrong: {mean_wrong[~declined].mean():.1%}")

    print(f"\n{'selective prediction':26}    AURC  risk at 80% coverage")
    for name, values in noisy.items():
        area = area_under_risk_coverage(values, wrong[name])
        print(f"{name:26}  {area:6.4f}  {risk_at_coverage(values, wrong[name], 0.8):20.1%}")

    inside = ask(mc, clean, samples).unsure
    others = {"digits 8 and 9": unknown, "shuffled pixels": shuffle(clean)}
    outside = {name: ask(mc, some, samples).unsure for name, some in others.items()}
    print(f"\n{'AUROC against 0 to 7':26}  " + "  ".join(f"{name:>15}" for name in outside))
    for name in NAMES:
        areas = [detection_auroc(inside[name], values[name]) for values in outside.values()]
        print(f"{name:26}  " + "  ".join(f"{area:15.3f}" for area in areas))
    for name, values in {"digits 0 to 7": inside, **outside}.items():
        print(f"{name}: {policy(values['entropy']).double().mean():.1%} declined")

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "selective_prediction.png"
    shown = {name: v["entropy"] for name, v in {"digits 0 to 7": inside, **outside}.items()}
    draw(wrong, noisy, shown, policy.abstain_above).savefig(path)
    print(path)


if __name__ == "__main__":
    main()
