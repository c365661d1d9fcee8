"""Where sites stand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.demo.diabetes import DiabetesNet
from mcdrop.layers import DropConnect, VariationalGRU, VariationalLSTM
from mcdrop.program.places import places
from tests import zoo
from tests.layers.family import FAMILY, net

# `drop_path` and `folded_heads` end behind their last layer with weights, `two_inputs` in a sum
ZOO = {
    "dropout": ["hidden"],
    "functional": ["hidden", "hidden"],
    "dropout2d": ["hidden"],
    "attention": ["hidden"],
    "attention_weights": ["hidden"],
    "folded_heads": ["output"],
    "lstm": ["hidden", "hidden"],
    "drop_path": ["hidden", "output"],
    "weight_drop": ["weights"],
    "two_inputs": ["output"],
    "transformer": ["hidden"] * 8,
    "bert": ["input", *["hidden"] * 7],
}
# between a function of the input and a linear layer, some of them with a layer of their own inside
INSIDE = {"VariationalDropout", "SparseVariationalDropout", "AdaptiveDropout", "MetaDropout"}
WEIGHTS = {"DropConnect", "DropConnect-recurrent"}
# of each layer or direction the input, which another layer made or not, and the state
RECURRENT = {
    "": ["input", "hidden", "hidden", "hidden"],
    "untied": ["input", "hidden"],
    "bidirectional": ["input", "hidden", "input", "hidden", "hidden"],
}


def placed(module: nn.Module, x: object) -> list[str]:
    program = mcdrop.capture(module, x)
    return list(places(program.graph, program.sites))


@pytest.mark.parametrize("name", ZOO)
def test_places_in_nets_of_all_kinds(name: str) -> None:
    program = zoo.program(name)
    assert list(places(program.graph, program.sites)) == ZOO[name]


@pytest.mark.parametrize("name", FAMILY)
def test_places_of_the_family(name: str) -> None:
    layer, _, kind = name.partition("-")
    if layer in ("VariationalLSTM", "VariationalGRU"):
        expected = RECURRENT[kind]
    else:
        expected = ["hidden" if name in INSIDE else "weights" if name in WEIGHTS else "input"]
    assert placed(net(FAMILY[name]), FAMILY[name].example(3)) == expected


@pytest.mark.parametrize("layer", [VariationalLSTM, VariationalGRU])
def test_places_of_a_recurrence_that_ends_a_net(layer: type[nn.Module]) -> None:
    class Ends(nn.Module):
        def __init__(self, **rates: float) -> None:
            super().__init__()
            self.rnn = layer(4, 4, batch_first=True, **{"p": 0.0, "p_recurrent": 0.0} | rates)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    x = torch.zeros(3, 2, 4)
    assert placed(Ends(p_recurrent=0.5), x) == ["hidden"]
    assert placed(Ends(p_output=0.5), x) == ["output"]
    dropped = DropConnect(Ends(p_recurrent=0.5), 0.5, ["rnn.weight_hh_l0"])
    assert placed(dropped, x) == ["weights", "hidden"]


def test_a_layer_decides_and_not_arithmetic() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.full((4,), 2.0))
            self.norm = nn.BatchNorm1d(4)
            self.layer = nn.Linear(4, 4)
            self.first, self.inside, self.last = (nn.Dropout(0.5) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            h = self.inside(torch.relu(self.layer(self.first(self.norm(x / self.scale)))))
            return torch.tanh(self.last(self.layer(h)) * self.scale)

    assert placed(Net(), torch.zeros(2, 4)) == ["input", "hidden", "output"]


def test_a_learned_normalisation_behind_it_is_no_output() -> None:
    ends = nn.Linear(4, 4), nn.Dropout(0.1)
    assert placed(nn.Sequential(*ends, nn.LayerNorm(4)), torch.zeros(2, 4)) == ["hidden"]
    plain = nn.LayerNorm(4, elementwise_affine=False)
    assert placed(nn.Sequential(*ends, plain), torch.zeros(2, 4)) == ["output"]


def test_dropout_of_embeddings_is_dropout_of_the_input() -> None:
    words = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Dropout(0.1), nn.Linear(4, 2))
    assert placed(words, torch.zeros(2, 3, dtype=torch.int64)) == ["input"]


def test_a_net_without_weights_has_inputs_only() -> None:
    assert placed(nn.Sequential(nn.Dropout(0.5), nn.ReLU()), torch.ones(2, 4)) == ["input"]


def test_a_net_that_standardises_inside() -> None:
    net = DiabetesNet(torch.randn(20, 10), torch.randn(20, 1))
    assert placed(net, torch.zeros(2, 10)) == ["hidden", "hidden"]
