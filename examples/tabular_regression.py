"""A regression that learns its own dropout rates, and tells two kinds of uncertainty apart.

Progression of diabetes from ten measurements (442 patients, bundled with scikit-learn). Each layer
is wrapped in `ConcreteDropout`, whose rate is trained with the weights: no search over rates. Monte
Carlo dropout gives each patient a mean and a variance of two parts: *aleatoric*, how much patients
with such measurements differ, and *epistemic*, how little the network knows about such patients.
The second should grow for measurements unlike all that it was trained on: it is printed for the
test patients, and for the same patients moved away from the average. It more than doubles there,
but the aleatoric part falls, and the total hardly moves: how unlike a patient is shows in the
epistemic part alone, and not in the width of the interval.

    python examples/tabular_regression.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import mcdrop
from mcdrop.layers import ConcreteDropout
from mcdrop.metrics.functional import (
    gaussian_negative_log_likelihood,
    interval_coverage,
    mean_interval_width,
)

LEVELS = (0.5, 0.9)
TEST, HELD = 0.25, 0.2  # shares: of all patients, and of the others, to choose the epochs on
AWAY = 3.0  # how much further from the average the patients from outside are


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Measurements `[N, 10]` and scores `[N, 1]` to train on, then those of the test."""
    bunch = load_diabetes(scaled=False)
    x = torch.tensor(bunch.data, dtype=torch.float32)
    y = torch.tensor(bunch.target, dtype=torch.float32)[:, None]
    rest, test = train_test_split(torch.arange(len(x)), test_size=TEST, random_state=0)
    train, _ = train_test_split(rest, test_size=HELD, random_state=0)
    return x[train], y[train], x[test], y[test]


def network(rows: int, width: int = 64) -> nn.Sequential:
    """Standardised measurements `[B, 10]` in, mean and log-variance `[B, 2]` out."""
    return nn.Sequential(
        ConcreteDropout(nn.Linear(10, width), rows, p=0.1, length_scale=1.0),
        nn.ReLU(),
        ConcreteDropout(nn.Linear(width, width), rows, p=0.1, length_scale=1.0),
        nn.ReLU(),
        ConcreteDropout(nn.Linear(width, 2), rows, p=0.1, length_scale=1.0),
    )


def rates(model: nn.Module) -> list[float]:
    """The dropout rates of all layers, as they are now."""
    return [layer.p for layer in model.modules() if isinstance(layer, ConcreteDropout)]


def train(x: Tensor, y: Tensor, epochs: int) -> tuple[nn.Sequential, list[list[float]]]:
    """Fit standardised rows; the trained model, and its rates after each epoch.

    The loss is twice the Gaussian negative log-likelihood, a squared error in units of the noise,
    as the factors of Concrete dropout's regulariser expect. With 264 rows, longer training lets
    the network learn the rows by heart, and the rates and the noise that it claims go to zero: the
    epochs were chosen on the calibration part of the data, which is neither trained nor tested on.
    """
    model = network(len(x))
    optimiser = torch.optim.Adam(
        [
            {"params": [p for n, p in model.named_parameters() if not n.endswith("logit")]},
            {"params": [p for n, p in model.named_parameters() if n.endswith("logit")], "lr": 1e-2},
        ],
        lr=1e-3,
    )
    history = [rates(model)]
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x)).split(32):
            mean, log_variance = model(x[rows]).chunk(2, dim=-1)
            error = (y[rows] - mean).square()
            loss = (error * torch.exp(-log_variance) + log_variance).mean()
            loss = loss + mcdrop.regularization(model)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        history.append(rates(model))
    return model.eval(), history


def report(
    inside: mcdrop.RegressionPrediction,
    outside: mcdrop.RegressionPrediction,
    trained: Tensor,
    y: Tensor,
    scale: Tensor,
) -> None:
    """Print how good the predictions are, in units of the score, beside the average patient."""
    alone = trained.mean().expand_as(y), trained.std().expand_as(y)
    ours = inside.mean * scale + trained.mean(), inside.variance.sqrt() * scale
    for name, (mean, std) in (("average patient", alone), ("network", ours)):
        rmse = (mean - y).square().mean().sqrt()
        nll = gaussian_negative_log_likelihood(mean, std, y)
        each = 0.5 * ((y - mean) / std).square() + std.log()  # but for a constant
        error = each.std() / len(y) ** 0.5
        print(f"{name}: RMSE {rmse:.1f}, NLL {nll:.3f} ± {error:.3f} nats")
    standardised = (y - trained.mean()) / scale
    for level in LEVELS:
        lower, upper = inside.interval(level)
        held = interval_coverage(lower, upper, standardised).item()
        error = (held * (1 - held) / len(y)) ** 0.5  # binomial
        print(
            f"{level:.0%} intervals: hold {held:.1%} ± {error:.1%} of "
            f"{len(y)} patients, width {mean_interval_width(lower, upper) * scale.item():.0f}"
        )
    for name, p in (("test patients", inside), ("moved away", outside)):
        epistemic, aleatoric, total = (
            scale * v.mean().sqrt() for v in (p.epistemic, p.aleatoric, p.variance)
        )
        share = (p.epistemic / p.variance).mean()
        print(
            f"{name}: epistemic ± {epistemic.item():.1f}, aleatoric ± {aleatoric.item():.1f}, "
            f"total ± {total.item():.1f}, epistemic share {share:.1%}"
        )


def draw(
    history: list[list[float]],
    inside: mcdrop.RegressionPrediction,
    outside: mcdrop.RegressionPrediction,
    trained: Tensor,
    y: Tensor,
    path: Path,
) -> None:
    """The rates over training, the intervals, and the two deviations of each patient."""
    centre, scale = trained.mean(), trained.std()
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(14, 4.4), dpi=110, layout="constrained"
    )
    for place, (rate, colour) in enumerate(
        zip(zip(*history, strict=True), ("#1f4e8c", "#d9822b", "#2a7f62"), strict=True)
    ):
        left.plot(rate, color=colour, label=f"layer {place + 1}: {rate[-1]:.3f}")
    left.set(xlabel="epoch", ylabel="dropout rate (share of units)", title="Rates are learned")
    left.set_ylim(bottom=0)
    left.legend(frameon=False)

    order = inside.mean[:, 0].argsort()
    place = torch.arange(len(y))
    for level, colour in zip(LEVELS[::-1], ("#cfe0f3", "#8fb8e0"), strict=True):
        low, high = (centre + scale * bound[order, 0] for bound in inside.interval(level))
        middle.fill_between(place, low, high, color=colour, lw=0, label=f"{level:.0%} interval")
    middle.plot(place, centre + scale * inside.mean[order, 0], color="#1f4e8c", label="mean")
    middle.plot(place, y[order, 0], "o", color="#b5452c", ms=3, label="true")
    middle.set(
        xlabel="test patients, by predicted mean", ylabel="progression, points of the score",
        title="Intervals",
    )  # fmt: skip
    middle.legend(frameon=False, loc="upper left")

    for name, p, colour in (
        ("test patients", inside, "#1f4e8c"),
        (f"moved {AWAY:g} times away", outside, "#d9822b"),
    ):
        right.plot(
            scale * p.aleatoric.sqrt(), scale * p.epistemic.sqrt(), "o", color=colour, ms=4,
            alpha=0.7, label=name,
        )  # fmt: skip
    right.set(
        xlabel="aleatoric deviation, points", ylabel="epistemic deviation, points",
        title="Two kinds of doubt", xlim=0, ylim=0,
    )  # fmt: skip
    right.legend(frameon=False, loc="upper right")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Train, predict, report."""
    parser = argparse.ArgumentParser(description="tabular regression with learned dropout rates")
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="few epochs and samples: a test")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    x, y, x_test, y_test = load()
    scaled, scaled_test = (x - x.mean(0)) / x.std(0), (x_test - x.mean(0)) / x.std(0)
    scale = y.std()
    model, history = train(scaled, (y - y.mean()) / scale, epochs=50 if arguments.quick else 100)
    print("rates learned:", ", ".join(f"{rate:.3f}" for rate in rates(model)))

    mc = mcdrop.MCDropout(model, scaled[:1], task="gaussian")
    samples = 64 if arguments.quick else 1024
    inside = mc.predict(scaled_test, samples=samples, seed=0)
    outside = mc.predict(AWAY * scaled_test, samples=samples, seed=0)
    report(inside, outside, y, y_test, scale)
    path = arguments.output / "tabular_regression.png"
    draw(history, inside, outside, y, y_test, path)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main()
