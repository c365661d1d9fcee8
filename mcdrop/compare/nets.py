"""The nets that techniques are compared in: small, each with places for a technique.

All take `[B, H, W]`: the 8x8 pixels of a digit, or the 1x10 measurements of a patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 64
_CHANNELS = 16
_HEADS = 4
_WORDS = 17  # levels of grey, or of a measurement

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DensePlaces:
    """Of `Dense`.

    Attributes:
        after: behind a hidden layer's activation.
        linear: the second and the third linear layer.
        hidden: a hidden layer with its activation.
        branch: the end of the residual branch.
    """

    after: Callable[[], nn.Module] = nn.Identity
    linear: Callable[[int, int], nn.Module] = nn.Linear
    hidden: Callable[[nn.Module], nn.Module] = lambda layer: nn.Sequential(layer, nn.ReLU())
    branch: Callable[[], nn.Module] = nn.Identity


class Dense(nn.Module):
    """Two hidden layers, the second on a residual branch."""

    def __init__(self, shape: Shape, outputs: int, places: DensePlaces) -> None:
        super().__init__()
        inputs = shape[0] * shape[1]
        self.first = places.hidden(nn.Linear(inputs, 2 * HIDDEN))
        self.after_first = places.after()
        self.second = places.hidden(places.linear(2 * HIDDEN, 2 * HIDDEN))
        self.branch = places.branch()
        self.after_second = places.after()
        self.out = places.linear(2 * HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or mean and log-variance, `[B, outputs]`."""
        h = self.after_first(self.first(x.flatten(1)))
        h = h + self.branch(self.second(h))
        out: Tensor = self.out(self.after_second(h))
        return out


@dataclass(frozen=True, slots=True)
class ConvPlaces:
    """Of `Convolutional`: behind an activation, and around the second convolution."""

    after: Callable[[], nn.Module] = nn.Identity
    around: Callable[[nn.Module], nn.Module] = lambda layer: layer


class Convolutional(nn.Module):
    """Two convolutions and a hidden layer; patients are images of one row."""

    def __init__(self, shape: Shape, outputs: int, places: ConvPlaces) -> None:
        super().__init__()
        self.pooled = (min(shape[0], 4), min(shape[1], 5 if shape[0] == 1 else 4))
        self.first = nn.Conv2d(1, _CHANNELS, 3, padding=1)
        self.after_first = places.after()
        self.second = places.around(nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 3, padding=1))
        self.after_second = places.after()
        self.hidden = nn.Linear(2 * _CHANNELS * self.pooled[0] * self.pooled[1], HIDDEN)
        self.out = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or mean and log-variance, `[B, outputs]`."""
        h = self.after_first(F.relu(self.first(x[:, None])))
        h = self.after_second(F.relu(self.second(h)))
        h = F.adaptive_avg_pool2d(h, self.pooled)
        out: Tensor = self.out(F.relu(self.hidden(h.flatten(1))))
        return out


@dataclass(frozen=True, slots=True)
class RecurrentPlaces:
    """Of `Recurrent`: the recurrent layer, and what is in front of it and behind it."""

    rnn: Callable[[int, int], nn.Module]
    around: Callable[[], nn.Module] = nn.Identity


class Recurrent(nn.Module):
    """Reads a digit row by row, or a patient's measurements one by one."""

    def __init__(self, shape: Shape, outputs: int, places: RecurrentPlaces) -> None:
        super().__init__()
        self.by_row = shape[0] > 1
        self.before = places.around()
        self.rnn = places.rnn(shape[1] if self.by_row else 1, HIDDEN)
        self.behind = places.around()
        self.out = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or mean and log-variance, `[B, outputs]`."""
        steps = x if self.by_row else x.transpose(1, 2)
        h = self.behind(self.rnn(self.before(steps))[0])
        out: Tensor = self.out(h.mean(1))
        return out


@dataclass(frozen=True, slots=True)
class AttentionPlaces:
    """Of `Attention`: behind the softmax of the scores, and behind the heads."""

    scores: Callable[[], nn.Module] = nn.Identity
    heads: Callable[[], nn.Module] = nn.Identity


class Attention(nn.Module):
    """One block of attention over rows of pixels, or over measurements."""

    def __init__(self, shape: Shape, outputs: int, places: AttentionPlaces) -> None:
        super().__init__()
        self.by_row = shape[0] > 1
        tokens, features = shape if self.by_row else (shape[1], 1)
        self.embed = nn.Linear(features, HIDDEN)
        self.position = nn.Parameter(0.1 * torch.randn(tokens, HIDDEN))
        self.mix = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.scores = places.scores()
        self.heads = places.heads()
        self.project = nn.Linear(HIDDEN, HIDDEN)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or mean and log-variance, `[B, outputs]`."""
        tokens = self.embed(x if self.by_row else x.transpose(1, 2)) + self.position
        query, key, value = (
            part.unflatten(2, (_HEADS, -1)).transpose(1, 2) for part in self.mix(tokens).chunk(3, 2)
        )
        scores = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, -1)
        mixed = self.heads(self.scores(scores) @ value)  # [B, heads, T, F]
        h = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        h = h + F.relu(self.hidden(h))
        out: Tensor = self.out(h.mean(1))
        return out


class Words(nn.Module):
    """Looks up a vector for each level of grey, or of a measurement, and goes on densely."""

    def __init__(
        self, shape: Shape, outputs: int, embedding: Callable[[nn.Embedding], nn.Module]
    ) -> None:
        super().__init__()
        self.grey = shape[0] > 1
        self.embedding = embedding(nn.Embedding(_WORDS, 8))
        self.hidden = nn.Linear(8 * shape[0] * shape[1], 2 * HIDDEN)
        self.out = nn.Linear(2 * HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or mean and log-variance, `[B, outputs]`."""
        flat = x.flatten(1)
        levels = 16.0 * flat if self.grey else 8.0 + 4.0 * flat  # a quarter of a deviation each
        words = levels.round().clamp(0, _WORDS - 1).long()
        out: Tensor = self.out(F.relu(self.hidden(self.embedding(words).flatten(1))))
        return out
