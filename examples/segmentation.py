"""Segment images, and show that errors lie where the network is unsure.

The images are scenes that this file makes: handwritten digits of scikit-learn's set, enlarged and
scattered, with noise that grows from the left to the right. A small U-Net says of each pixel
whether it is paper, ink of a low digit (0 to 4), or ink of a high one (5 to 9). DropBlock drops
squares of its feature maps, as what one pixel holds can be read off its neighbours. mcdrop keeps it
dropping and shows

- accuracy and intersection over union, with dropout off and with Monte Carlo dropout;
- how many of the pixels are wrong among the surest, and among the least sure;
- two scenes, what is true, what is predicted, and entropy and mutual information of each pixel.

It writes examples-output/segmentation.png, or into the folder that is named:

    python examples/segmentation.py [--output FOLDER] [--quick]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mcdrop
from mcdrop.layers import DropBlock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEED = 0
SIZE = 48  # pixels, of a scene's side
CLASSES = ("paper", "digit 0 to 4", "digit 5 to 9")


def scenes(number: int, digits: range) -> tuple[Tensor, Tensor]:
    """Images `[N, 1, H, W]` and the classes of their pixels `[N, H, W]`.

    Args:
        number: how many.
        digits: which of scikit-learn's digits are strewn: others to train on than to test on.
    """
    bunch = load_digits()
    small = torch.tensor(bunch.images[digits.start : digits.stop], dtype=torch.float32)[:, None]
    large = F.interpolate(small / 16, scale_factor=2, mode="bilinear")[:, 0]
    images, truth = torch.zeros(number, SIZE, SIZE), torch.zeros(number, SIZE, SIZE).long()
    for image, classes in zip(images, truth, strict=True):
        for cell in torch.randperm(9)[:5].tolist():  # of three by three, a digit in each of five
            row = int(torch.randint(len(large), ()))
            top, left = 16 * (cell // 3), 16 * (cell % 3)
            square = (slice(top, top + 16), slice(left, left + 16))
            image[square] = large[row]
            classes[square][large[row] > 0.35] = 1 if bunch.target[digits.start + row] < 5 else 2
    # noise that grows from the left to the right
    strength = torch.linspace(0.02, 0.6, SIZE) * torch.ones(number, SIZE, 1)
    images += strength * torch.randn_like(images)
    return images[:, None], truth


class UNet(nn.Module):
    """Down twice and up again, with what was seen on the way down: logits `[B, C, H, W]`."""

    def __init__(self, width: int = 16, p: float = 0.25) -> None:
        super().__init__()
        self.first = block(1, width)
        self.second = block(width, 2 * width)
        self.bottom = nn.Sequential(block(2 * width, 4 * width), DropBlock(p, block_size=3))
        self.third = nn.Sequential(block(6 * width, 2 * width), DropBlock(p, block_size=3))
        self.last = nn.Sequential(block(3 * width, width), DropBlock(p, block_size=5))
        self.head = nn.Conv2d(width, len(CLASSES), kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of images `[B, 1, H, W]`."""
        first = self.first(image)  # [B, w, H, W]
        second = self.second(F.max_pool2d(first, 2))  # [B, 2w, H/2, W/2]
        bottom = self.bottom(F.max_pool2d(second, 2))  # [B, 4w, H/4, W/4]
        third = self.third(torch.cat([F.interpolate(bottom, scale_factor=2.0), second], 1))
        last = self.last(torch.cat([F.interpolate(third, scale_factor=2.0), first], 1))
        logits: Tensor = self.head(last)
        return logits


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution, normalised."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def train(net: nn.Module, images: Tensor, truth: Tensor, epochs: int) -> None:
    """An ordinary training loop: DropBlock drops because the network is in training mode."""
    batches = -(-len(images) // 16)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=epochs * batches)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(16):
            loss = F.cross_entropy(net(images[rows]), truth[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()


def report(name: str, predicted: Tensor, truth: Tensor) -> None:
    """One line: accuracy of the pixels, and intersection over union, averaged over classes."""
    accuracy = (predicted == truth).double().mean()
    overlaps = [
        ((predicted == k) & (truth == k)).sum() / ((predicted == k) | (truth == k)).sum()
        for k in range(len(CLASSES))
    ]
    print(f"{name:20}  accuracy {accuracy:.3f}  mean IoU {torch.stack(overlaps).mean():.3f}")


def draw(
    images: Tensor, truth: Tensor, prediction: mcdrop.ClassificationPrediction, rows: list[int]
) -> Figure:
    """A line of pictures for each of some scenes."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = ["#f4f1ea", "#2a9d8f", "#e76f51"]
    maps = {"vmin": 0, "vmax": 2, "cmap": ListedColormap(colours), "interpolation": "nearest"}
    figure = Figure(figsize=(14, 2.35 * len(rows) + 0.7), dpi=100, layout="constrained")
    grid = figure.subplots(len(rows), 6)
    predicted = prediction.mean.argmax(1)
    titles = ["image", "truth", "prediction", "errors"]
    for line, row in zip(grid, rows, strict=True):
        line[0].imshow(images[row, 0].numpy(), cmap="gray_r", vmin=-0.5, vmax=1.5)
        line[1].imshow(truth[row].numpy(), **maps)
        line[2].imshow(predicted[row].numpy(), **maps)
        line[3].imshow((predicted[row] != truth[row]).numpy(), cmap="gray_r")
    for column, name in ((4, "entropy"), (5, "mutual_information")):
        values = getattr(prediction, name)[rows].numpy()
        for axes, value in zip(grid[:, column], values, strict=True):
            axes.imshow(value, cmap="magma", vmin=0, vmax=values.max())
        titles.append(f"{name.replace('_', ' ')}, to {values.max():.2f} nats")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, size=9)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    figure.legend(
        handles=[
            Patch(facecolor=c, edgecolor="0.7", label=name)
            for c, name in zip(colours, CLASSES, strict=True)
        ],
        loc="outside lower center",
        ncols=len(CLASSES),
        frameon=False,
    )
    return figure


def main() -> None:
    """Make scenes, train, ask, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("examples-output"))
    parser.add_argument("--quick", action="store_true", help="train less and sample less")
    options = parser.parse_args()
    number, epochs, tested, samples = (48, 6, 8, 16) if options.quick else (256, 12, 40, 64)

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in one order: the same figures every time
    images, truth = scenes(number, digits=range(1200))
    net = UNet()
    train(net, images, truth, epochs)

    images, truth = scenes(tested, digits=range(1200, 1797))
    task = mcdrop.tasks.Classification(dim=1)  # logits [B, C, H, W]: classes on axis 1
    mc = mcdrop.MCDropout(net, images[:1], task=task)
    prediction = mc.predict(images, samples=samples)  # entropies are [B, H, W]
    # `predict` gives what the task calls for; type checkers see the general kind
    assert isinstance(prediction, mcdrop.ClassificationPrediction)
    report("dropout off", mc.deterministic(images).argmax(1), truth)
    report("Monte Carlo dropout", prediction.mean.argmax(1), truth)

    wrong = (prediction.mean.argmax(1) != truth).double().flatten()
    by_entropy = wrong[prediction.entropy.flatten().argsort()]
    tenths = by_entropy.chunk(10)
    print(f"errors among the surest tenth of the pixels: {tenths[0].mean():.2%}")
    print(f"errors among the least sure tenth: {tenths[-1].mean():.2%}")
    found = tenths[-1].sum() / wrong.sum()
    print(f"share of all errors that lie in the least sure tenth: {found:.1%}")

    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "segmentation.png"
    draw(images, truth, prediction, rows=[0, 1]).savefig(path)
    print(path)


if __name__ == "__main__":
    main()
