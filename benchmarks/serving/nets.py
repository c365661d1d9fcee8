"""The models that are served: the same weights on either side, and rows to ask about."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import workloads

NAMES = ("mlp", "digits")
ROWS = 256


@dataclass(frozen=True, slots=True)
class Net:
    """A model as torch has it.

    Attributes:
        name: of the model on the server.
        title: for people.
        module: in evaluation mode.
        temperature: that logits are divided by in every sample.
        samples: that a request gets if it does not say.
    """

    name: str
    title: str
    module: nn.Module
    temperature: float
    samples: int


def build(name: str, models: Path) -> Net:
    """A model by name, always the same: `mlp`, or `digits` out of the demo models' folder."""
    return mlp() if name == "mlp" else digits(models)


def mlp(width: int = 1024, seed: int = 0) -> Net:
    """`benchmarks.workloads.mlp`, with weights under which rows differ; they cost the same."""
    generator = torch.Generator().manual_seed(seed)
    if width == 1024:
        module = workloads.build("mlp").module
    else:
        module = nn.Sequential(
            *(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 10))
        )
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
    return Net("mlp", "MLP, 3 × 1024, p = 0.5", module.eval(), 1.0, 100)


def digits(models: Path) -> Net:
    """The demo model, its weights and its temperature out of the artifact."""
    from safetensors.torch import load_file

    from mcdrop.demo.digits import DigitsNet

    folder = models / "digits" / "1"
    stored = load_file(folder / "weights.safetensors")
    module = DigitsNet()
    left = module.load_state_dict(
        {name.removeprefix("w:"): value for name, value in stored.items()}, strict=False
    )
    missing = [name for name in left.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or left.unexpected_keys:
        raise ValueError(f"{folder} does not fit DigitsNet: {missing}, {left.unexpected_keys}")
    scaling = json.loads((folder / "calibration.json").read_text())["scaling"]
    samples = json.loads((folder / "model.json").read_text())["defaults"]["samples"]
    return Net("digits", "demo model digits", module.eval(), float(scaling["temperature"]), samples)


def publish(name: str, models: Path, root: Path) -> None:
    """Put the artifact of a model into a models folder, as version 1."""
    target = root / name / "1"
    if name == "mlp":
        save(mlp(), target)
    else:
        shutil.copytree(models / name / "1", target)


def save(net: Net, target: Path) -> None:
    """Capture and save a net as `<name>/<version>`."""
    import mcdrop

    example = (torch.ones(2, 64),)
    captured = mcdrop.MCDropout(net.module, example_inputs=example, task="classification")
    captured.save(target, name=target.parent.name, version=int(target.name), samples=net.samples)


def rows(name: str, count: int = ROWS) -> list[Any]:
    """Rows as JSON says them, all different, always the same.

    Four decimals: a request is no longer than it need be.
    """
    generator = torch.Generator().manual_seed(1)
    if name == "digits":
        made = _noisy_digits(count, generator)
    elif name == "diabetes":
        made = _patients(count)
    else:
        made = torch.randn(count, 64, generator=generator)
    found: list[Any] = made.double().mul(1e4).round().div(1e4).tolist()
    return found


def _noisy_digits(count: int, generator: torch.Generator) -> Tensor:
    """Test images under as much noise: of clean ones many have the same certain answer."""
    from mcdrop.demo import data

    images = torch.from_numpy(data.digits().test[0][:count])
    noise = torch.randn(images.shape, generator=generator).abs().clamp(max=1.0)
    return (images + noise) / 2


def _patients(count: int) -> Tensor:
    """Rows of the test part, as they are measured."""
    from mcdrop.demo import data

    return torch.from_numpy(data.diabetes().test[0][:count])
