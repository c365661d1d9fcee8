"""Forecast a series with intervals, and see where their width comes from.

The series is made here: days with a trend, a week, a month of 30 days, and noise that grows. A
`VariationalLSTM` reads the last 60 days and answers with a mean and a log-variance for each of the
next 14 (task "gaussian"). Monte Carlo dropout then gives intervals, whose variance is the sum of two
parts: *aleatoric*, the noise that the network sees in the data, and *epistemic*, what it is not sure
of itself. The last quarter of the series is not trained on: there it is counted how often the
intervals hold the truth.

    python examples/forecasting.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.layers import VariationalLSTM
from mcdrop.metrics.functional import interval_coverage, mean_interval_width

DAYS, HELD_OUT = 1_600, 400
WINDOW, HORIZON = 60, 14
LEVELS = (0.5, 0.9)


def noise_deviation() -> Tensor:
    """Standard deviation of the noise of each day, `[DAYS]`."""
    return torch.linspace(0.15, 0.75, DAYS)


def make_series() -> Tensor:
    """A trend, two seasons, and noise that grows: `[DAYS]`."""
    day = torch.arange(DAYS, dtype=torch.float32)
    week = torch.sin(2 * torch.pi * day / 7) + 0.5 * torch.sin(4 * torch.pi * day / 7 + 1.0)
    month = 1.5 * torch.sin(2 * torch.pi * day / 30)
    return 20.0 + 0.006 * day + week + month + noise_deviation() * torch.randn(DAYS)


class Forecaster(nn.Module):
    """Reads `[B, WINDOW]`, says mean and log-variance of what follows: `[B, 2 * HORIZON]`."""

    def __init__(self, scale: float, width: int = 48) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.lstm = VariationalLSTM(1, width, batch_first=True, p=0.0, p_recurrent=0.1)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 2 * HORIZON))

    def forward(self, window: Tensor) -> Tensor:
        """Both in the series' own units; inside, the window's mean is taken off: no trend is left."""
        level = window.mean(1, keepdim=True)
        states, _ = self.lstm(((window - level) / self.scale).unsqueeze(-1))  # [B, WINDOW, width]
        mean, log_variance = self.head(states[:, -1]).chunk(2, dim=-1)
        return torch.cat(
            [mean * self.scale + level, log_variance + 2.0 * self.scale.log()], dim=-1
        )


def windows(series: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
    """What comes before each origin `[B, WINDOW]`, and what follows it `[B, HORIZON]`."""
    past = series[origins[:, None] + torch.arange(-WINDOW, 0)]
    return past, series[origins[:, None] + torch.arange(HORIZON)]


def train(series: Tensor, epochs: int) -> Forecaster:
    """Fit by the Gaussian negative log-likelihood; the mean alone in the first third."""
    model = Forecaster(float(series.diff().std()))
    past, future = windows(series, torch.arange(WINDOW, len(series) - HORIZON + 1))
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(past)).split(64):
            mean, log_variance = model(past[rows]).chunk(2, dim=-1)
            error = (future[rows] - mean).square()
            loss = 0.5 * (error * torch.exp(-log_variance) + log_variance).mean()
            if epoch < epochs // 3:
                loss = error.mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        schedule.step()
    return model.eval()


def report(p: mcdrop.RegressionPrediction, past: Tensor, truth: Tensor, noise: Tensor) -> None:
    """Print what was forecast against what came."""
    last_week = past[:, -7:].repeat(1, 2)  # the naive forecast: the last week again, twice
    for name, mean in (("forecast", p.mean), ("last week again", last_week)):
        print(f"RMSE, {name}: {(mean - truth).square().mean().sqrt():.3f}")
    for level in LEVELS:
        lower, upper = p.interval(level)
        print(
            f"{level:.0%} intervals: hold {interval_coverage(lower, upper, truth):.1%} of "
            f"{truth.numel()} days, width {mean_interval_width(lower, upper):.2f}"
        )
    for name, day in (("1 day", 0), (f"{HORIZON} days", HORIZON - 1)):
        epistemic, aleatoric = p.epistemic[:, day].mean().sqrt(), p.aleatoric[:, day].mean().sqrt()
        print(f"{name} ahead: epistemic ± {epistemic:.3f}, aleatoric ± {aleatoric:.3f}")
    said, true = p.aleatoric.sqrt().mean(), noise.square().mean().sqrt()
    print(f"noise in the held-out days: the model says {said:.3f}, it was made with {true:.3f}")


def draw(series: Tensor, origins: Tensor, p: mcdrop.RegressionPrediction, path: Path) -> None:
    """Six forecasts end to end above, the two parts of their deviation below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = min(6, len(origins))
    first, last = int(origins[0]), int(origins[shown - 1]) + HORIZON
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11, 6), dpi=110, sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    before = torch.arange(first - WINDOW, first)
    upper.plot(before, series[before], color="#8a8f98", lw=1, label="seen")
    days = torch.arange(first, last)
    for level, colour in zip(LEVELS[::-1], ("#cfe0f3", "#8fb8e0"), strict=True):
        low, high = (bound[:shown].flatten() for bound in p.interval(level))
        upper.fill_between(days, low, high, color=colour, lw=0, label=f"{level:.0%} interval")
    upper.plot(days, p.mean[:shown].flatten(), color="#1f4e8c", lw=1.5, label="forecast")
    upper.plot(days, series[days], "o", color="#b5452c", ms=3, label="what came")
    epistemic, aleatoric = p.epistemic[:shown].flatten(), p.aleatoric[:shown].flatten()
    parts = (epistemic, aleatoric)
    lower.stackplot(
        days, *parts, labels=["epistemic", "aleatoric"], colors=["#d9822b", "#8fb8e0"], lw=0
    )
    for axes in (upper, lower):
        for origin in origins[:shown].tolist():
            axes.axvline(origin, color="#444", lw=0.6, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
    upper.legend(loc="upper left", ncols=5, frameon=False)
    upper.set_ylim(top=float(upper.get_ylim()[1]) + 1.0)
    upper.set_title(f"Forecasts of {HORIZON} days, each made at a dotted line", loc="left")
    lower.legend(loc="upper left", ncols=2, frameon=False)
    lower.set_ylim(top=1.35 * float((epistemic + aleatoric).max()))
    lower.set_ylabel("variance")
    lower.set_xlabel("day")
    figure.savefig(path)


def main() -> None:
    """Make the series, train, forecast, report."""
    parser = argparse.ArgumentParser(description="forecasting with intervals")
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="few epochs and samples: a test")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    series = make_series()
    model = train(series[:-HELD_OUT], epochs=6 if arguments.quick else 30)

    origins = torch.arange(DAYS - HELD_OUT, DAYS - HORIZON + 1, HORIZON)
    past, truth = windows(series, origins)
    mc = mcdrop.MCDropout(model, past[:1], task="gaussian")
    p = mc.predict(past, samples=64 if arguments.quick else 512, seed=0)
    report(p, past, truth, noise_deviation()[-HELD_OUT:])
    draw(series, origins, p, arguments.output / "forecasting.png")
    print(f"drawn: {arguments.output / 'forecasting.png'}")


if __name__ == "__main__":
    main()
