"""Forecast a series with intervals, and see where their width comes from.

The series is made here: days with a trend, a week, a month of 30 days, and noise that grows. A
`VariationalLSTM` reads the last 60 days and answers with a mean and a log-variance for each of the
next 14 (task "gaussian"). Its log-variance has help: it starts from a feature made by hand, the
roughness of the window that differences over 7 and over 30 days leave, which are the periods that
the series was made with. Of a series of your own you would have to find them first.

Monte Carlo dropout gives intervals, whose variance is the sum of two parts: *aleatoric*, the noise
that the network sees in the data, and *epistemic*, what it is not sure of itself. The first 3000
days are trained on, the intervals are calibrated on the next 400, and on the last 600 it is counted
how often they hold the truth.

Coverage is printed for several stretches, before calibration and after, since it differs. The
log-variance was fitted to the errors of single passes, in which the dropout noise is, too, and
`predict` adds that noise as the epistemic part: it counts twice. In the first days the aleatoric
part is indeed as large as the error of a single pass; later it is larger than that, too. The
epistemic part hardly changes along the series, so it widens the intervals most where there is least
noise, in the first days. Calibration has one factor for all days (of each of the 14 steps): it is
right for days like those that it was fitted on, not for these.

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

DAYS, TRAINED, HELD_OUT = 4_000, 3_000, 600  # what is between is to calibrate on
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
    return 20.0 + 0.002 * day + week + month + noise_deviation() * torch.randn(DAYS)


class Forecaster(nn.Module):
    """Reads `[B, WINDOW]`, says mean and log-variance of what follows: `[B, 2 * HORIZON]`."""

    def __init__(self, scale: float, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.lstm = VariationalLSTM(1, width, batch_first=True, p=0.0, p_recurrent=0.05)
        self.dropout = nn.Dropout(0.05)
        self.head = nn.Linear(width + 1, 2 * HORIZON)

    def forward(self, window: Tensor) -> Tensor:
        """Both in the series' own units.

        Inside, the window's mean is taken off, so that no trend is left. The log-variance starts
        from how rough the window is, the variance of what differences over a week and a month
        leave, and the head is told it, too.
        """
        level = window.mean(1, keepdim=True)
        states, _ = self.lstm(((window - level) / self.scale).unsqueeze(-1))  # [B, WINDOW, width]
        weekly = window[:, 7:] - window[:, :-7]
        rough = (weekly[:, 30:] - weekly[:, :-30]).std(1, keepdim=True) / 2.0
        known = torch.cat([self.dropout(states[:, -1]), (rough / self.scale).log()], dim=-1)
        mean, log_variance = self.head(known).chunk(2, dim=-1)
        return torch.cat([mean * self.scale + level, log_variance + 2.0 * rough.log()], dim=-1)


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


def report(p: mcdrop.RegressionPrediction, past: Tensor, truth: Tensor) -> None:
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
    epistemic, aleatoric = p.epistemic.mean().sqrt(), p.aleatoric.mean().sqrt()
    print(f"deviation: epistemic ± {epistemic:.3f}, aleatoric ± {aleatoric:.3f}")


def report_stretch(
    name: str, raw: mcdrop.RegressionPrediction, p: mcdrop.RegressionPrediction, truth: Tensor
) -> None:
    """Print coverage in a stretch before and after calibration, and deviations before it."""
    shares = (
        [float(interval_coverage(*each.interval(level), truth)) for each in (raw, p)]
        for level in LEVELS
    )
    covered = ", ".join(
        f"{level:.0%} intervals cover {before:.1%}, calibrated {after:.1%}"
        for level, (before, after) in zip(LEVELS, shares, strict=True)
    )
    error = (raw.mean - truth).square().mean()
    single = (error + raw.epistemic.mean()).sqrt()  # a pass is the mean, and its own deviation
    print(f"{name}: {covered}")
    print(
        f"    epistemic ± {raw.epistemic.mean().sqrt():.3f}, "
        f"aleatoric ± {raw.aleatoric.mean().sqrt():.3f}, RMSE {error.sqrt():.3f}, "
        f"of a single pass {single:.3f}"
    )


def draw(series: Tensor, origins: Tensor, p: mcdrop.RegressionPrediction, path: Path) -> None:
    """Six held-out forecasts end to end; below, the parts of the deviation of all forecasts."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    held = origins >= DAYS - HELD_OUT
    kept = p.rows(held.nonzero()[:6, 0])
    days = (origins[held][:6, None] + torch.arange(HORIZON)).flatten()
    before = torch.arange(int(days[0]) - WINDOW, int(days[0]))
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(11, 7), dpi=110, height_ratios=(3, 2), layout="constrained"
    )
    upper.plot(before, series[before], color="#8a8f98", lw=1, label="seen")
    for level, colour in zip(LEVELS[::-1], ("#cfe0f3", "#8fb8e0"), strict=True):
        low, high = (bound.flatten() for bound in kept.interval(level))
        upper.fill_between(days, low, high, color=colour, lw=0, label=f"{level:.0%} interval")
    upper.plot(days, kept.mean.flatten(), color="#1f4e8c", lw=1.5, label="forecast")
    upper.plot(days, series[days], "o", color="#b5452c", ms=3, label="what came")
    for origin in days[::HORIZON].tolist():
        upper.axvline(origin, color="#444", lw=0.6, ls=":")
    upper.set_ylim(top=float(upper.get_ylim()[1]) + 1.0)
    upper.set_title(f"Forecasts of {HORIZON} days, each made at a dotted line", loc="left")
    aleatoric, epistemic = (part.mean(1).sqrt() for part in (p.aleatoric, p.epistemic))
    lower.plot(origins, aleatoric, color="#1f4e8c", lw=1.3, label="aleatoric")
    lower.plot(origins, epistemic, color="#d9822b", lw=1.3, label="epistemic")
    lower.plot(noise_deviation(), color="#444", lw=1, ls="--", label="noise it was made with")
    lower.axvspan(DAYS - HELD_OUT, DAYS, color="#e6e8eb", lw=0, zorder=0, label="held out")
    lower.set_title("Deviations of the calibrated forecasts from each day on", loc="left")
    upper.set(ylabel="series, its own units")
    lower.set(
        xlabel="day",
        ylabel="deviation, same units",
        xlim=(0, DAYS),
        ylim=(0, 1.4 * float(aleatoric.max())),
    )
    for axes in (upper, lower):
        axes.legend(loc="upper left", ncols=5, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Make the series, train, forecast, report."""
    parser = argparse.ArgumentParser(description="forecasting with intervals")
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="few epochs and samples: a test")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    torch.set_num_threads(1)  # sums in one order, the same figures everywhere; enough for this net
    series = make_series()
    model = train(series[:TRAINED], epochs=8 if arguments.quick else 20)

    origins = torch.arange(WINDOW + (DAYS - WINDOW) % HORIZON, DAYS - HORIZON + 1, HORIZON)
    past, truth = windows(series, origins)
    mc = mcdrop.MCDropout(model, past[:1], task="gaussian")
    samples = 64 if arguments.quick else 256
    raw = mc.predict(past, samples=samples, seed=0)
    calibrated_on = torch.arange(TRAINED, DAYS - HELD_OUT - HORIZON + 1)
    mc.calibrate(*windows(series, calibrated_on), samples=samples, seed=0)
    p = mc.predict(past, samples=samples, seed=0)  # calibrated now

    held, first = origins >= DAYS - HELD_OUT, origins < HELD_OUT
    last = origins + HORIZON
    report(p.rows(held), past[held], truth[held])
    stretches = {
        "first 600 days, trained on": first,
        "last 600 trained on": (origins >= TRAINED - 600) & (last <= TRAINED),
        "calibrated on": (origins >= TRAINED) & (last <= DAYS - HELD_OUT),
        "held out": held,
    }
    for name, part in stretches.items():
        report_stretch(name, raw.rows(part), p.rows(part), truth[part])
    for name, part in (("first", first), ("held-out", held)):
        said = raw.aleatoric[part].mean().sqrt()
        true = windows(noise_deviation(), origins[part])[1].square().mean().sqrt()
        print(f"noise of the {name} days: the model says {said:.3f}, it was {true:.3f}")
    draw(series, origins, p, arguments.output / "forecasting.png")
    print(f"drawn: {arguments.output / 'forecasting.png'}")


if __name__ == "__main__":
    main()
