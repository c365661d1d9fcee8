"""Named workloads: an untrained net, a shape of batch, and how many samples to take.

Weights do not change what a pass costs, so nothing is trained here; `benchmarks.models` has the
trained nets, for measurements of error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, a batch, and how many samples to take.

    Attributes:
        name: for `--workloads` and for results.
        title: for people.
        module: in evaluation mode.
        x: a batch, `[B, ...]`.
        samples: stochastic passes of a prediction.
    """

    name: str
    title: str
    module: nn.Module
    x: Tensor
    samples: int

    def batch(self, number: int) -> Tensor:
        """Another batch of the same shape, always the same for a number."""
        generator = torch.Generator().manual_seed(number)
        return torch.randn(self.x.shape, generator=generator).to(self.x.device)


def build(name: str, device: str = "cpu") -> Workload:
    """A workload by its name, on a device, always the same; torch's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        work = ALL[name]()
    return Workload(
        name, work.title, work.module.eval().to(device), work.x.to(device), work.samples
    )


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
    title = "VGG-style net, dropout in its head, batch 16"
    return Workload(
        "vgg_head", title, nn.Sequential(*layers, *head), torch.randn(16, 3, 32, 32), 100
    )


def mlp() -> Workload:
    """Three hidden layers of 1024 with dropout 0.5, batch 32."""
    layers: list[nn.Module] = [nn.Linear(64, 1024), nn.ReLU(), nn.Dropout(0.5)]
    for _ in range(2):
        layers += [nn.Linear(1024, 1024), nn.ReLU(), nn.Dropout(0.5)]
    module = nn.Sequential(*layers, nn.Linear(1024, 10))
    return Workload("mlp", "MLP, 3 × 1024, p = 0.5, batch 32", module, torch.randn(32, 64), 100)


class WideBlock(nn.Module):
    """Pre-activation residual block with dropout between its convolutions."""

    def __init__(self, channels: int, width: int, stride: int, p: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.again = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(p)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        same = channels == width and stride == 1
        self.skip = None if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps in, feature maps out."""
        h = F.relu(self.norm(x))
        past = x if self.skip is None else self.skip(h)
        h = self.first(h)
        out: Tensor = past + self.second(self.drop(F.relu(self.again(h))))
        return out


def wide_resnet() -> Workload:
    """WideResNet 16-4 (Zagoruyko & Komodakis, 2016), p = 0.3, on 32×32 images, batch 4."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        layers += [WideBlock(channels, width, stride, 0.3), WideBlock(width, width, 1, 0.3)]
        channels = width
    layers += [nn.BatchNorm2d(256), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(256, 10))
    with torch.no_grad():  # running statistics as after training: those of the data
        for _ in range(20):
            module.train()(torch.randn(8, 3, 32, 32))
    title = "WideResNet 16-4, p = 0.3, BatchNorm, batch 4"
    return Workload("wide_resnet", title, module, torch.randn(4, 3, 32, 32), 20)


def transformer() -> Workload:
    """Pre-norm transformer encoder, 4 layers of 256, 64 tokens, batch 8, dropout 0.1."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, 0.1, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    title = "pre-norm transformer, 4 × 256, batch 8"
    return Workload("transformer", title, encoder, torch.randn(8, 64, 256), 20)


class Recurrent(nn.Module):
    """Two LSTM layers with dropout between and behind, read at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(32, 128, 2, dropout=0.2, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences `[B, T, 32]` in, `[B, 1]` out."""
        out: Tensor = self.out(self.drop(self.rnn(x)[0][:, -1]))
        return out


def lstm() -> Workload:
    """Two LSTM layers of 128 with dropout 0.2 between and behind, 32 steps, batch 16."""
    return Workload("lstm", "LSTM, 2 × 128, batch 16", Recurrent(), torch.randn(16, 32, 32), 100)


def uci(samples: int = 100) -> Workload:
    """The net of Gal & Ghahramani (2016): one hidden layer of 50, dropout on input and hidden."""
    module = nn.Sequential(
        nn.Dropout(0.05), nn.Linear(13, 50), nn.ReLU(), nn.Dropout(0.05), nn.Linear(50, 1)
    )
    return Workload("uci", "net of 50 units, batch 51", module, torch.randn(51, 13), samples)


def uci_1000() -> Workload:
    """The same, with as many samples as a careful user takes."""
    return uci(1000)


ALL: dict[str, Callable[[], Workload]] = {
    builder.__name__: builder
    for builder in (vgg_head, mlp, wide_resnet, transformer, lstm, uci, uci_1000)
}
