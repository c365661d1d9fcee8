"""Named workloads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, a batch, and how many samples to take."""

    name: str
    module: nn.Module
    x: Tensor
    samples: int


def vgg_head() -> Workload:
    """VGG-style net on 32×32 images, batch 16: convolutions, then dropout in its head."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    head = [nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5)]
    head += [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
    return Workload("vgg_head", nn.Sequential(*layers, *head), torch.randn(16, 3, 32, 32), 100)


def mlp() -> Workload:
    """Three hidden layers of 1024 with dropout 0.5, batch 32."""
    layers: list[nn.Module] = [nn.Linear(64, 1024), nn.ReLU(), nn.Dropout(0.5)]
    for _ in range(2):
        layers += [nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(0.5)]
    return Workload(
        "mlp_3x1024", nn.Sequential(*layers, nn.Linear(1024, 10)), torch.randn(32, 64), 100
    )


def transformer() -> Workload:
    """Pre-norm transformer encoder, 4 layers of 256, 64 tokens, batch 8, dropout 0.1."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return Workload("transformer_4x256", encoder, torch.randn(8, 64, 256), 20)


def lstm() -> Workload:
    """Two LSTM layers of 128 with dropout 0.2 between and behind, 32 steps, batch 16."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(32, 128, 2, dropout=0.2, batch_first=True)
            self.drop = nn.Dropout(0.2)
            self.out = nn.Linear(128, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(self.drop(self.rnn(x)[0][:, -1]))
            return out

    return Workload("lstm_2x128", Net(), torch.randn(16, 32, 32), 100)


def uci() -> Workload:
    """The net of Gal & Ghahramani (2016): one hidden layer of 50, dropout on input and hidden."""
    module = nn.Sequential(
        nn.Dropout(0.05), nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1)
    )
    return Workload("uci_50", module, torch.randn(51, 13), 1000)


ALL = (vgg_head, mlp, transformer, lstm, uci)
