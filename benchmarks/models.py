"""Trained nets with rows that their training never saw, for measurements of error.

The error of a mean over samples depends on the weights: on an untrained net it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from benchmarks.uci import layout
from mcdrop.demo import data, diabetes, digits
from mcdrop.demo.train import reproducible

# Beside the checkout, where there is one; `--uci` names another. Never copied into the project.
UCI = Path(__file__).resolve().parents[2] / "shared" / "data" / "uci" / "bostonHousing"
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained net and held-out rows.

    Attributes:
        name: for results.
        title: for people.
        module: in evaluation mode.
        x: held-out rows, `[B, ...]`.
        task: what its output means to mcdrop.
        source: the data.
    """

    name: str
    title: str
    module: nn.Module
    x: Tensor
    task: str
    source: str

    def to(self, device: str) -> Trained:
        """The same on a device."""
        return replace(self, module=self.module.to(device), x=self.x.to(device))


def montecarlo(trained: Trained, **options: Any) -> mcdrop.MCDropout:
    """The one place where a trained net is given to mcdrop: its defaults, and what is asked for."""
    device = trained.x.device.type
    return mcdrop.MCDropout(trained.module, trained.x, task=trained.task, device=device, **options)


def digits_cnn(rows: int = 64) -> Trained:
    """The demo's classifier of digits, trained as `make models` trains it."""
    split = data.digits()
    with reproducible(0):
        module = digits.fit(split)
    x = torch.from_numpy(split.test[0])[:rows]
    title = "digits CNN (the demo model)"
    return Trained("digits_cnn", title, module, x, "classification", split.source)


def uci_net(folder: Path | None = None, rows: int = 51, epochs: int = 1000) -> Trained:
    """The net of Gal & Ghahramani (2016): 50 hidden units, p = 0.05 on them and on the input.

    Trained by squared error on standardised inputs and targets, Adam, batches of 128.

    Args:
        folder: a set in the layout of the paper's experiments, of which the first split is taken;
            by default the one beside the checkout, and scikit-learn's diabetes where there is none.
        rows: held-out rows to keep.
        epochs: passes over the training rows.
    """
    folder = folder if folder is not None else UCI if UCI.is_dir() else None
    if folder is None:
        split = data.diabetes()
        (x, y), (test, _), source = split.train, split.test, split.source
    else:
        uci = layout.read(folder, splits=1)
        ((train, held_out),) = uci.splits
        x, y, test = uci.x[train], uci.y[train, None], uci.x[held_out]
        source = f"UCI {folder.name}, first split of the experiments of Gal & Ghahramani (2016)"
    centre, scale = x.mean(0), np.where(x.std(0) == 0, 1.0, x.std(0))
    target = torch.from_numpy(((y - y.mean(0)) / y.std(0)).astype(np.float32))
    with reproducible(0):
        module = nn.Sequential(
            nn.Dropout(0.05),
            nn.Linear(x.shape[1], 50),
            nn.ReLU(),
            nn.Dropout(0.05),
            nn.Linear(50, 1),
        )
        features = torch.from_numpy(((x - centre) / scale).astype(np.float32))
        _fit(module, features, target, F.mse_loss, epochs, batch=128, rate=1e-3)
    held = torch.from_numpy(((test - centre) / scale).astype(np.float32))[:rows]
    return Trained("uci_net", "UCI net, 50 units", module, held, "regression", source)


def diabetes_mlp(rows: int = 8) -> Trained:
    """The demo's regression: two hidden layers of 64, p = 0.3, mean and log-variance."""
    split = data.diabetes()
    with reproducible(0):
        module = diabetes.fit(split).net
    x = torch.from_numpy(split.test[0])[:rows]
    title = "diabetes MLP (the demo model)"
    return Trained("diabetes_mlp", title, module, x, "gaussian", split.source)


def digits_mlp(rows: int = 8) -> Trained:
    """Two hidden layers of 256, p = 0.5."""

    def net() -> nn.Module:
        return nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)),
        )

    return _of_digits("digits_mlp", "digits MLP, 2 × 256, p = 0.5", net, rows)


def small_cnn(rows: int = 8) -> Trained:
    """The demo's classifier with a quarter of its channels, trained briefly."""
    return _of_digits("small_cnn", "small digits CNN", lambda: digits.DigitsNet(width=8), rows)


def small_lstm(rows: int = 8) -> Trained:
    """Two LSTM layers of 32 over the lines of an image, p = 0.3 between and behind."""
    return _of_digits("small_lstm", "small LSTM, 2 × 32, p = 0.3", LinesLSTM, rows)


def small_transformer(rows: int = 8) -> Trained:
    """Two pre-norm layers of 32 over the lines of an image, p = 0.1."""
    title = "small transformer, 2 × 32, p = 0.1"
    return _of_digits("small_transformer", title, LinesTransformer, rows)


class LinesLSTM(nn.Module):
    """Reads an image line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 32, 2, dropout=0.3, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[B, 10]` of images `[B, 1, 8, 8]`."""
        logits: Tensor = self.out(self.drop(self.rnn(image.squeeze(1))[0][:, -1]))
        return logits


class LinesTransformer(nn.Module):
    """Attends over the lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(0.1 * torch.randn(8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[B, 10]` of images `[B, 1, 8, 8]`."""
        tokens = self.embed(image.squeeze(1)) + self.place
        logits: Tensor = self.out(self.encoder(tokens).mean(1))
        return logits


def _of_digits(name: str, title: str, net: Callable[[], nn.Module], rows: int) -> Trained:
    split = data.digits()
    with reproducible(0):
        module = net()
        images, classes = (torch.from_numpy(part) for part in split.train)
        _fit(module, images, classes, F.cross_entropy, epochs=15, batch=64, rate=3e-3)
    x = torch.from_numpy(split.test[0])[:rows]
    return Trained(name, title, module, x, "classification", split.source)


def _fit(
    module: nn.Module, x: Tensor, y: Tensor, loss: Loss, epochs: int, batch: int, rate: float
) -> None:
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    module.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), batch):
            optimiser.zero_grad()
            torch.autograd.backward(loss(module(x[rows]), y[rows]))
            optimiser.step()
    module.eval()
