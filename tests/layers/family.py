"""One net for each technique: a layer of the family between layers that are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcdrop import layers


@dataclass(frozen=True, slots=True)
class Member:
    """A technique.

    Attributes:
        make: the layer.
        shape: of its input, the batch left out.
        kinds: what its sites are called.
        words: how many there are in the vocabulary, where it takes words.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kinds: tuple[str, ...] = ("dropout",)
    words: int | None = None

    def example(self, rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An input."""
        if self.words is not None:
            return torch.randint(self.words, (rows, *self.shape))
        return torch.randn(rows, *self.shape).to(dtype)


class Net(nn.Module):
    """A layer behind a function of each element, in front of an output of three numbers."""

    def __init__(self, layer: nn.Module, width: int, *, words: bool = False) -> None:
        super().__init__()
        self.words = words
        self.site = layer
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        value = x if self.words else torch.tanh(x) + 0.1
        return self.out(torch.tanh(self.site(value)).flatten(1))


def net(member: Member, seed: int = 0) -> Net:
    """The net of a technique, with weights of a seed."""
    torch.manual_seed(seed)
    layer = member.make()
    with torch.no_grad():
        width = layer.eval()(member.example(1)).flatten(1).shape[1]
    return Net(layer.train(), width, words=member.words is not None)


FAMILY: dict[str, Member] = {
    "StandardDropout": Member(lambda: layers.StandardDropout(0.4), (6,)),
    "Dropout": Member(lambda: layers.Dropout(0.4), (6,)),
    "SpatialDropout-1d": Member(
        lambda: layers.SpatialDropout(0.4, dims=1), (6, 5), ("feature_dropout",)
    ),
    "SpatialDropout-2d": Member(
        lambda: layers.SpatialDropout(0.4, dims=2), (6, 3, 4), ("feature_dropout",)
    ),
    "SpatialDropout-3d": Member(
        lambda: layers.SpatialDropout(0.4, dims=3), (6, 2, 3, 2), ("feature_dropout",)
    ),
    "LockedDropout": Member(lambda: layers.LockedDropout(0.4), (5, 6)),
    "EmbeddingDropout": Member(
        lambda: layers.EmbeddingDropout(nn.Embedding(9, 4), 0.4), (7,), words=9
    ),
    "GaussianDropout": Member(lambda: layers.GaussianDropout(0.4), (6,), ("gaussian",)),
    "VariationalDropout": Member(
        lambda: layers.VariationalDropout(6, 5, rows=100, p=0.4), (6,), ("variational",)
    ),
    "SparseVariationalDropout": Member(
        lambda: layers.SparseVariationalDropout(6, 5, rows=100, log_sigma2=-3.0),
        (6,),
        ("variational",),
    ),
    "AdaptiveDropout": Member(
        lambda: layers.AdaptiveDropout(nn.Linear(6, 5), nn.ReLU()), (6,), ("adaptive",)
    ),
    "ConcreteDropout": Member(
        lambda: layers.ConcreteDropout(nn.Linear(6, 5), rows=100, p=0.4), (6,), ("concrete",)
    ),
    "ConcreteSpatialDropout": Member(
        lambda: layers.ConcreteSpatialDropout(nn.Conv2d(6, 5, 3), rows=100, p=0.4),
        (6, 4, 5),
        ("concrete",),
    ),
    "DropBlock": Member(lambda: layers.DropBlock(0.4, block_size=2), (3, 5, 6), ("drop_block",)),
    "DropPath": Member(lambda: layers.DropPath(0.4), (6,)),
    "DropConnect": Member(lambda: layers.DropConnect(nn.Linear(6, 5), 0.4), (6,)),
    "DropConnect-recurrent": Member(
        lambda: layers.DropConnect(
            First(nn.GRU(6, 5, batch_first=True)), 0.4, ["rnn.weight_hh_l0"]
        ),
        (4, 6),
    ),
    "HeadDropout": Member(lambda: layers.HeadDropout(3, 0.4), (5, 6)),
    "HeadDropout-apart": Member(lambda: layers.HeadDropout(3, 0.4), (3, 5, 2)),
    "GroupDropout": Member(lambda: layers.GroupDropout(3, 0.4), (6,)),
    "AttentionDropout": Member(lambda: layers.AttentionDropout(0.4), (4, 6), ("importance",)),
    "AttentionDropLayer": Member(
        lambda: layers.AttentionDropLayer(0.6), (3, 4, 5), ("attention_drop",)
    ),
    "MetaDropout": Member(lambda: layers.MetaDropout(nn.Linear(6, 5)), (6,), ("meta",)),
    "VariationalLSTM": Member(
        lambda: OutputLSTM(6, 5, 2, batch_first=True, p=0.4, p_recurrent=0.4),
        (4, 6),
        ("dropout",) * 4,
    ),
    "VariationalLSTM-untied": Member(
        lambda: OutputLSTM(6, 5, batch_first=True, p=0.4, p_recurrent=0.4, tied=False),
        (4, 6),
        ("dropout",) * 2,
    ),
    "VariationalLSTM-bidirectional": Member(
        lambda: OutputLSTM(
            6, 5, batch_first=True, bidirectional=True, p=0.4, p_recurrent=0.4, p_output=0.4
        ),
        (4, 6),
        ("dropout",) * 5,
    ),
    "VariationalGRU": Member(
        lambda: OutputGRU(6, 5, 2, batch_first=True, p=0.4, p_recurrent=0.4),
        (4, 6),
        ("dropout",) * 4,
    ),
    "VariationalGRU-untied": Member(
        lambda: OutputGRU(6, 5, batch_first=True, p=0.4, p_recurrent=0.4, tied=False),
        (4, 6),
        ("dropout",) * 2,
    ),
    "VariationalGRU-bidirectional": Member(
        lambda: OutputGRU(
            6, 5, batch_first=True, bidirectional=True, p=0.4, p_recurrent=0.4, p_output=0.4
        ),
        (4, 6),
        ("dropout",) * 5,
    ),
}


class First(nn.Module):
    """A recurrent layer's output alone."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class OutputLSTM(layers.VariationalLSTM):
    """A variational LSTM's output alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class OutputGRU(layers.VariationalGRU):
    """A variational GRU's output alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]
