"""The diabetes regression: mean and log-variance, raw units in and out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mcdrop.demo.data import Split

DESCRIPTION = (
    "Progression of diabetes one year after baseline. Input: `features`, float32 [B, 10], in raw "
    "units, not scaled: age (years), sex (coded 1 or 2), body mass index (kg/m2), mean blood "
    "pressure (mmHg), total cholesterol (mg/dl), LDL (mg/dl), HDL (mg/dl), total cholesterol / "
    "HDL, log of triglycerides, blood sugar (mg/dl); the model standardises them itself. Output: "
    "mean and variance of the progression score, which was 25 to 346 in the study."
)
MAX_EPOCHS = 400
WARM_EPOCHS = 20
PATIENCE = 40
VALIDATION_SHARE = 0.2
VALIDATION_SAMPLES = 50
BATCH = 32
RATE = 1e-3
WEIGHT_DECAY = 0.1
BETA = 0.5


class DiabetesNet(nn.Module):
    """Two hidden layers with dropout; standardises inside, so that clients never have to.

    Args:
        features: training inputs `[N, 10]`, for their means and scales.
        targets: training targets `[N, 1]`, the same.
        width: hidden units of each layer.
        p: dropout rate.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, features: Tensor, targets: Tensor, width: int = 64, p: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("feature_mean", features.mean(0))
        self.register_buffer("feature_scale", features.std(0))
        self.register_buffer("target_mean", targets.mean(0))
        self.register_buffer("target_scale", targets.std(0))
        self.body = nn.Sequential(
            nn.Linear(features.shape[1], width),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(width, 2),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Mean and log-variance `[B, 2]`, in units of the target, of features `[B, 10]`."""
        mean, log_variance = self.standardised(features)
        return torch.cat(
            [
                mean * self.target_scale + self.target_mean,
                log_variance + 2.0 * self.target_scale.log(),
            ],
            dim=-1,
        )

    def standardised(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same, each `[B, 1]`, of the standardised target: what training sees."""
        out = self.body((features - self.feature_mean) / self.feature_scale)
        return out[:, :1], out[:, 1:]


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained net, and when its training stopped.

    Attributes:
        epochs: epochs behind the weights that were kept.
        validation_nll: negative log-likelihood in nats of the validation part, at those weights.
    """

    net: DiabetesNet
    epochs: int
    validation_nll: float


def fit(
    split: Split,
    max_epochs: int = MAX_EPOCHS,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train; keep the weights with the best likelihood on a validation part of the training rows.

    The mean is fitted alone first, then mean and variance by the beta-NLL (Seitzer et al. 2022,
    eq. 5), which keeps the noise from explaining the signal away. The test part is not looked at.
    Reads torch's CPU generator: seed it first (see `mcdrop.demo.train`).

    Args:
        split: the diabetes data.
        max_epochs: passes over the training part, unless it stops sooner.
        progress: told (done, total) after each epoch.
    """
    features, targets = torch.from_numpy(split.train[0]), torch.from_numpy(split.train[1])
    held, kept = torch.randperm(len(features)).tensor_split([int(len(features) * VALIDATION_SHARE)])
    net = DiabetesNet(features[kept], targets[kept])
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    best = Fit(net, epochs=0, validation_nll=math.inf)
    for epoch in range(1, max_epochs + 1):
        net.train()
        for chosen in torch.split(torch.randperm(len(kept)), BATCH):
            rows = kept[chosen]
            loss = _loss(
                net, features[rows], targets[rows], beta=BETA if epoch > WARM_EPOCHS else None
            )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if epoch > WARM_EPOCHS:
            nll = _validation_nll(net, features[held], targets[held])
            if nll < best.validation_nll:
                best = Fit(copy.deepcopy(net), epochs=epoch, validation_nll=nll)
        if progress is not None:
            progress(epoch, max_epochs)
        if epoch > WARM_EPOCHS and epoch - best.epochs > PATIENCE:
            break
    return replace(best, net=best.net.eval())


def _loss(net: DiabetesNet, features: Tensor, targets: Tensor, beta: float | None) -> Tensor:
    """Squared error without `beta`; with it, the Gaussian NLL weighted by variance to the beta."""
    mean, log_variance = net.standardised(features)
    error = ((targets - net.target_mean) / net.target_scale - mean).square()
    if beta is None:
        return error.mean()
    nll = 0.5 * (log_variance + error * torch.exp(-log_variance))
    return (nll * torch.exp(beta * log_variance.detach())).mean()


@torch.no_grad()
def _validation_nll(net: DiabetesNet, features: Tensor, targets: Tensor) -> float:
    """Mean NLL in nats, raw units, of the moment-matched Gaussian over dropout samples."""
    repeated = features.expand(VALIDATION_SAMPLES, *features.shape).flatten(0, 1)  # [S*B, 10]
    out = net.train()(repeated).unflatten(0, (VALIDATION_SAMPLES, -1))  # [S, B, 2]
    variance = out[..., :1].var(0) + out[..., 1:].exp().mean(0)
    error = (targets - out[..., :1].mean(0)).square()
    return float(0.5 * (torch.log(2.0 * math.pi * variance) + error / variance).mean())
