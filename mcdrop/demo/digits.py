"""The classifier of handwritten digits: a small CNN with dropout in its body and its head."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop.demo.data import Split

CLASSES = tuple("0123456789")
DESCRIPTION = (
    "Handwritten digits. Input: `image`, float32 [B, 1, 8, 8], one grey channel, pixel values "
    "scaled to 0 (paper) .. 1 (ink): scikit-learn's load_digits divided by 16. Output: "
    "probabilities of the digits 0 to 9."
)
EPOCHS = 60
BATCH = 64
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-4


class DigitsNet(nn.Module):
    """Three convolutions, two linear layers; whole feature maps and hidden units are dropped.

    Args:
        width: channels of the first convolution.
        spatial_p: dropout rate of feature maps.
        head_p: dropout rate of the hidden layer.
    """

    def __init__(self, width: int = 32, spatial_p: float = 0.2, head_p: float = 0.5) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_stage(1, width, spatial_p),
            *_stage(width, 2 * width, spatial_p),
            nn.MaxPool2d(2),
            *_stage(2 * width, 2 * width, spatial_p),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * 2 * 2, 4 * width),
            nn.ReLU(),
            nn.Dropout(head_p),
            nn.Linear(4 * width, len(CLASSES)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits `[B, 10]` of images `[B, 1, 8, 8]`."""
        logits: Tensor = self.head(self.body(image))
        return logits


def _stage(inputs: int, outputs: int, p: float) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout2d(p)


def fit(
    split: Split, epochs: int = EPOCHS, progress: Callable[[int, int], None] | None = None
) -> DigitsNet:
    """Train on the training part, for a fixed number of epochs of a one-cycle schedule.

    Reads torch's CPU generator: seed it first (see `mcdrop.demo.train`).

    Args:
        split: the digits.
        epochs: passes over the training part.
        progress: told (done, total) after each epoch.
    """
    images, classes = torch.from_numpy(split.train[0]), torch.from_numpy(split.train[1])
    net = DigitsNet()
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    batches = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=PEAK_RATE, total_steps=epochs * batches
    )
    for epoch in range(epochs):
        net.train()
        for rows in torch.split(torch.randperm(len(images)), BATCH):
            loss = F.cross_entropy(net(images[rows]), classes[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        if progress is not None:
            progress(epoch + 1, epochs)
    return net.eval()
