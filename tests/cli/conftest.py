"""A runner, small artifacts of every shape, and a folder with a user's module in it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from mcdrop.cli.app import app
from mcdrop.predictor import MCDropout
from mcdrop.tasks import Classification, Gaussian

NETS = """
import torch
from torch import nn

REPORT = "not a factory"

def build():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 3))
    return net, torch.zeros(2, 4)

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, left, right):
        return {"extra": left, "logits": self.dropout(left.sum(1) + right)}

def pair():
    return Pair(), (torch.ones(2, 6, 3), torch.ones(2, 3))

def pair_by_name():
    return Pair(), {"left": torch.ones(2, 6, 3), "right": torch.ones(2, 3)}

def certain():
    return nn.Linear(4, 3), torch.zeros(2, 4)

def alone():
    return nn.Linear(4, 3)

def not_a_module():
    return "net", torch.zeros(2, 4)

def not_tensors():
    return nn.Linear(4, 3), [1, 2]

def failing():
    raise ValueError("the weights\\nare gone")

def leaving():
    raise SystemExit(3)

class nested:
    build = staticmethod(build)
"""


@pytest.fixture
def mcdrop():
    runner = CliRunner()

    def run(*args):
        return runner.invoke(app, [str(arg) for arg in args])

    return run


@pytest.fixture
def nets(tmp_path, monkeypatch) -> Path:
    """The current folder, with `nets.py` in it."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    yield tmp_path
    sys.modules.pop("nets", None)


class Pair(nn.Module):
    """Two inputs, one of them integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        return self.dropout(self.embed(ids).sum(1) * scale)


def save(folder: Path, name: str, net: nn.Module, example, task, **kwargs) -> Path:
    mc = MCDropout(net, example_inputs=example, task=task)
    return mc.save(folder / name / "1", name=name, samples=16, **kwargs)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory) -> Path:
    """Artifacts named classes, number, numbers, pair, pixels."""
    folder = tmp_path_factory.mktemp("artifacts")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        x = torch.zeros(2, 4)
        hidden = [nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.25)]
        save(
            folder,
            "classes",
            nn.Sequential(*hidden, nn.Linear(8, 3)),
            (x,),
            Classification(),
            classes=("cat", "dog", "owl, barn"),
            description="four numbers [in no unit]",
            metrics={"test_accuracy": 0.875},
            provenance={"data": "made up"},
        )
        save(folder, "number", nn.Sequential(*hidden, nn.Linear(8, 2)), (x,), Gaussian())
        save(folder, "numbers", nn.Sequential(*hidden, nn.Linear(8, 4)), (x,), Gaussian())
        ids, scale = torch.zeros(2, 5, dtype=torch.int64), torch.ones(2, 3)
        save(folder, "pair", Pair(), (ids, scale), Classification())
        pixels = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout2d(0.5))
        save(folder, "pixels", pixels, (torch.zeros(2, 1, 4, 4),), Classification())
    return folder
