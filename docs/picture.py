"""Draw docs/images/uncertainty.png: uncertainty that grows away from the data.

Run it as `python -m docs.picture`. A small network with dropout is trained, in seconds, on points
with a gap between them, and asked with mcdrop what it knows along the whole axis.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray
from torch import Tensor, nn

import mcdrop
from mcdrop.demo.train import reproducible

OUTPUT = Path(__file__).parent / "images" / "uncertainty.png"
SEED = 0
STEPS = 2500
WARM_STEPS = 800
WIDTH = 128
DROPOUT = 0.25
SAMPLES = 1000
DRAWS = 20
REACH = 6.8

CARD, GRID, INK, FAINT = "#10172a", "#243049", "#f4f6fb", "#9aa7c2"
EPISTEMIC, ALEATORIC, DATA = "#ff8a5c", "#38bdf8", "#ffe9a8"


@dataclass(frozen=True, slots=True)
class Curves:
    """What the network says along the axis, each `[X]`; `draws` are single samples, `[S, X]`."""

    x: NDArray[np.float32]
    mean: NDArray[np.float32]
    epistemic: NDArray[np.float32]
    aleatoric: NDArray[np.float32]
    draws: NDArray[np.float32]


def points() -> tuple[Tensor, Tensor]:
    """Noisy points `[N, 1]` of a curve, none near zero; the noise grows to the right."""
    generator = np.random.default_rng(SEED + 1)
    x = np.concatenate([generator.uniform(-4.2, -1.4, 90), generator.uniform(1.4, 4.2, 90)])
    noise = 0.07 + 0.33 / (1.0 + np.exp(-3.0 * (x - 2.8)))
    y = np.sin(1.5 * x) + 0.2 * x + noise * generator.standard_normal(len(x))
    return torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(y, dtype=torch.float32)[
        :, None
    ]


def network() -> nn.Sequential:
    """Three hidden layers with dropout; the kinks of the first are spread over the whole axis."""
    first = nn.Linear(1, WIDTH)
    with torch.no_grad():
        slopes = torch.randn(WIDTH).sign() * (0.5 + torch.rand(WIDTH))
        first.weight.copy_(slopes[:, None])
        first.bias.copy_(slopes * (12.0 * torch.rand(WIDTH) - 6.0))
    layers: list[nn.Module] = [first, nn.ReLU(), nn.Dropout(DROPOUT)]
    for _ in range(2):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2))


def train(x: Tensor, y: Tensor) -> nn.Module:
    """Fit mean and log-variance, the mean alone first; then the beta-NLL (Seitzer et al. 2022)."""
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        mean, log_variance = net(x).split(1, dim=-1)
        error = (mean - y).square()
        if step < WARM_STEPS:
            loss = error.mean()
        else:
            nll = 0.5 * (log_variance + error * torch.exp(-log_variance))
            loss = (nll * torch.exp(0.5 * log_variance.detach())).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def ask(net: nn.Module) -> Curves:
    """Predict along the axis with mcdrop."""
    x = torch.linspace(-REACH, REACH, 500)[:, None]
    mc = mcdrop.MCDropout(net, example_inputs=(x,), task="gaussian")
    prediction = mc.predict(x, samples=SAMPLES, seed=SEED)
    assert isinstance(prediction, mcdrop.RegressionPrediction)
    draws = mc.sample(x, samples=DRAWS, seed=SEED)[..., 0]  # [S, X], the mean of each sample
    return Curves(
        x=x[:, 0].numpy(),
        mean=prediction.mean[:, 0].numpy(),
        epistemic=prediction.epistemic[:, 0].numpy(),
        aleatoric=prediction.aleatoric[:, 0].numpy(),
        draws=draws.numpy(),
    )


def draw(x: Tensor, y: Tensor, curves: Curves) -> Figure:
    """The picture: bands above, the two standard deviations below, on a card of its own."""
    figure = Figure(figsize=(10.0, 5.6), dpi=130)
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)  # outside of the card's round corners
    card = FancyBboxPatch(
        (0.012, 0.02),
        0.976,
        0.96,
        boxstyle="round,pad=0,rounding_size=0.03",
        mutation_aspect=10.0 / 5.6,
        transform=figure.transFigure,
        facecolor=CARD,
        edgecolor="none",
        zorder=-1,
    )
    figure.add_artist(card)
    upper = figure.add_axes((0.055, 0.325, 0.89, 0.50))
    lower = figure.add_axes((0.055, 0.085, 0.89, 0.17))
    _bands(upper, x, y, curves)
    _deviations(lower, curves)
    figure.text(0.055, 0.905, "It knows where it has not been.", color=INK, size=19, weight="bold")
    figure.text(
        0.055,
        0.855,
        f"One network, {SAMPLES:,} Monte Carlo dropout samples: mean and two standard deviations",
        color=FAINT,
        size=11,
    )
    return figure


def _bands(axes: Axes, x: Tensor, y: Tensor, curves: Curves) -> None:
    _plain(axes)
    total = 2.0 * np.sqrt(curves.epistemic + curves.aleatoric)
    epistemic = 2.0 * np.sqrt(curves.epistemic)
    axes.fill_between(
        curves.x, curves.mean - total, curves.mean + total, color=ALEATORIC, alpha=0.28, lw=0
    )
    axes.fill_between(
        curves.x,
        curves.mean - epistemic,
        curves.mean + epistemic,
        color=EPISTEMIC,
        alpha=0.55,
        lw=0,
    )
    axes.plot(curves.x, curves.draws.T, color="#ffd0bb", alpha=0.35, lw=0.6)
    axes.plot(curves.x, curves.mean, color=INK, lw=2.2)
    axes.plot(x[:, 0], y[:, 0], "o", color=DATA, ms=3.4, mec=CARD, mew=0.5, alpha=0.95)
    axes.set_ylim(-3.2, 3.4)
    for text, at, colour in (
        ("no data here", (-0.1, 1.85), EPISTEMIC),
        ("nor here", (-5.6, 0.45), EPISTEMIC),
        ("noisy data", (3.1, -1.75), ALEATORIC),
        ("clean data", (-3.0, 0.95), DATA),
    ):
        label = axes.text(*at, text, color=colour, size=12, ha="center")
        label.set_path_effects([patheffects.withStroke(linewidth=3, foreground=CARD)])


def _deviations(axes: Axes, curves: Curves) -> None:
    _plain(axes)
    for variance, colour in ((curves.epistemic, EPISTEMIC), (curves.aleatoric, ALEATORIC)):
        deviation = np.sqrt(variance)
        axes.fill_between(curves.x, 0.0, deviation, color=colour, alpha=0.18, lw=0)
        axes.plot(curves.x, deviation, color=colour, lw=2.0)
    axes.set_ylim(0.0, 0.72)
    for text, at, side, colour in (
        ("standard deviation", 0.0, "left", FAINT),
        ("epistemic: what more data would teach", 0.5, "center", EPISTEMIC),
        ("aleatoric: noise that no data removes", 1.0, "right", ALEATORIC),
    ):
        axes.text(at, 1.06, text, color=colour, size=10, ha=side, transform=axes.transAxes)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.set_xlim(-REACH, REACH)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def main(output: Path = OUTPUT) -> None:
    """Train, ask, draw and save; the global random state is left as it was."""
    with reproducible(SEED), mpl.rc_context({"font.family": "DejaVu Sans"}):
        x, y = points()
        figure = draw(x, y, ask(train(x, y)))
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, metadata={"Software": None}, pil_kwargs={"optimize": True})
    sys.stdout.write(f"{output}: {output.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
