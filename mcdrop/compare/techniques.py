"""The techniques that are compared, each in the net that has a place for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from mcdrop import layers
from mcdrop.compare.nets import (
    Attention,
    AttentionPlaces,
    Convolutional,
    ConvPlaces,
    Dense,
    DensePlaces,
    Recurrent,
    RecurrentPlaces,
    Shape,
    Words,
)
from mcdrop.layers.concrete import Loss
from mcdrop.schedules import CurriculumRate, LinearRate
from mcdrop.schedules.schedule import TimedSchedule

NetName = Literal["dense", "convolutional", "LSTM", "GRU", "attention", "words"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a net is made for.

    Attributes:
        shape: of an input.
        outputs: numbers that the net puts out.
        rows: of the training set.
        loss: what regularisers are added to.
        steps: of the training, until a rate that grows has come to its end.
    """

    shape: Shape
    outputs: int
    rows: int
    loss: Loss
    steps: int


@dataclass(frozen=True, slots=True)
class Technique:
    """A technique in its net.

    Attributes:
        name: of the class in `mcdrop.layers`, or what drives its rate; `"none"` for the net alone.
        net: which one it is.
        rate: as it is written in the table.
        make: the net with the technique in it.
        schedule: what drives its rate, stepped after each batch; `None` for a fixed one.
    """

    name: str
    net: NetName
    rate: str
    make: Callable[[Setting], nn.Module]
    schedule: Callable[[nn.Module, Setting], TimedSchedule] | None = None

    @property
    def plain(self) -> bool:
        """Whether it is the net without any technique."""
        return self.name == "none"


def _dense(
    places: DensePlaces | Callable[[Setting], DensePlaces],
) -> Callable[[Setting], nn.Module]:
    def make(setting: Setting) -> nn.Module:
        made = places if isinstance(places, DensePlaces) else places(setting)
        return Dense(setting.shape, setting.outputs, made)

    return make


def _conv(places: ConvPlaces | Callable[[Setting], ConvPlaces]) -> Callable[[Setting], nn.Module]:
    def make(setting: Setting) -> nn.Module:
        made = places if isinstance(places, ConvPlaces) else places(setting)
        return Convolutional(setting.shape, setting.outputs, made)

    return make


def _recurrent(places: RecurrentPlaces) -> Callable[[Setting], nn.Module]:
    return lambda setting: Recurrent(setting.shape, setting.outputs, places)


def _attention(places: AttentionPlaces) -> Callable[[Setting], nn.Module]:
    return lambda setting: Attention(setting.shape, setting.outputs, places)


def _words(embedding: Callable[[nn.Embedding], nn.Module]) -> Callable[[Setting], nn.Module]:
    return lambda setting: Words(setting.shape, setting.outputs, embedding)


def _concrete(setting: Setting) -> DensePlaces:
    def linear(inputs: int, outputs: int) -> nn.Module:
        layer = nn.Linear(inputs, outputs)
        return layers.ConcreteDropout(layer, setting.rows, 0.1, loss=setting.loss)

    return DensePlaces(linear=linear)


def _concrete_spatial(setting: Setting) -> ConvPlaces:
    return ConvPlaces(
        around=lambda layer: layers.ConcreteSpatialDropout(
            layer, setting.rows, 0.1, loss=setting.loss
        )
    )


def _variational(setting: Setting) -> DensePlaces:
    return DensePlaces(linear=partial(layers.VariationalDropout, rows=setting.rows, p=0.2))


def _sparse(setting: Setting) -> DensePlaces:
    return DensePlaces(linear=partial(layers.SparseVariationalDropout, rows=setting.rows))


def _after(layer: Callable[[], nn.Module]) -> Callable[[Setting], nn.Module]:
    return _dense(DensePlaces(after=layer))


def _rnn(kind: Callable[..., nn.Module], **options: float) -> Callable[[int, int], nn.Module]:
    return partial(kind, batch_first=True, **options)


_ADAPTIVE = DensePlaces(
    hidden=lambda layer: layers.AdaptiveDropout(layer, nn.ReLU(), alpha=1.0, beta=1.0)
)
_META = DensePlaces(
    hidden=lambda layer: nn.Sequential(layers.MetaDropout(layer), nn.ReLU()),
)
_CONNECT = DensePlaces(linear=lambda i, o: layers.DropConnect(nn.Linear(i, o), 0.3))
_VARIATIONAL_LSTM = _rnn(layers.VariationalLSTM, p=0.1, p_recurrent=0.3, p_output=0.3)
_VARIATIONAL_GRU = _rnn(layers.VariationalGRU, p=0.1, p_recurrent=0.3, p_output=0.3)
_LOCKED = RecurrentPlaces(_rnn(nn.LSTM), partial(layers.LockedDropout, 0.2))

TECHNIQUES: tuple[Technique, ...] = (
    Technique("none", "dense", "", _dense(DensePlaces())),
    Technique("StandardDropout", "dense", "0.3", _after(partial(layers.StandardDropout, 0.3))),
    Technique("Dropout", "dense", "0.3", _after(partial(layers.Dropout, 0.3))),
    Technique("GaussianDropout", "dense", "0.3", _after(partial(layers.GaussianDropout, 0.3))),
    Technique("VariationalDropout", "dense", "learned", _dense(_variational)),
    Technique("SparseVariationalDropout", "dense", "learned", _dense(_sparse)),
    Technique("AdaptiveDropout", "dense", "by input", _dense(_ADAPTIVE)),
    Technique("ConcreteDropout", "dense", "learned", _dense(_concrete)),
    Technique("DropConnect", "dense", "0.3", _dense(_CONNECT)),
    Technique("GroupDropout", "dense", "0.3", _after(partial(layers.GroupDropout, 32, 0.3))),
    Technique(
        "DropPath", "dense", "0.3", _dense(DensePlaces(branch=partial(layers.DropPath, 0.3)))
    ),
    Technique("MetaDropout", "dense", "learned", _dense(_META)),
    Technique(
        "LinearRate",
        "dense",
        "0 to 0.3",
        _after(partial(layers.Dropout, 0.3)),
        lambda net, setting: LinearRate(net, 0.0, 0.3, steps=setting.steps),
    ),
    Technique(
        "CurriculumRate",
        "dense",
        "0 to 0.3",
        _after(partial(layers.Dropout, 0.3)),
        lambda net, setting: CurriculumRate(net, 0.3, gamma=10.0 / setting.steps),  # e⁻¹⁰ is left
    ),
    Technique("none", "convolutional", "", _conv(ConvPlaces())),
    Technique(
        "SpatialDropout",
        "convolutional",
        "0.2",
        _conv(ConvPlaces(after=partial(layers.SpatialDropout, 0.2))),
    ),
    Technique("ConcreteSpatialDropout", "convolutional", "learned", _conv(_concrete_spatial)),
    Technique(
        "DropBlock",
        "convolutional",
        "0.2",
        _conv(ConvPlaces(after=partial(layers.DropBlock, 0.2, 3))),
    ),
    Technique(
        "AttentionDropLayer",
        "convolutional",
        "0.25",
        _conv(ConvPlaces(after=partial(layers.AttentionDropLayer, 0.25))),
    ),
    Technique("none", "LSTM", "", _recurrent(RecurrentPlaces(_rnn(nn.LSTM)))),
    Technique(
        "VariationalLSTM", "LSTM", "0.1, 0.3", _recurrent(RecurrentPlaces(_VARIATIONAL_LSTM))
    ),
    Technique("LockedDropout", "LSTM", "0.2", _recurrent(_LOCKED)),
    Technique("none", "GRU", "", _recurrent(RecurrentPlaces(_rnn(nn.GRU)))),
    Technique("VariationalGRU", "GRU", "0.1, 0.3", _recurrent(RecurrentPlaces(_VARIATIONAL_GRU))),
    Technique("none", "attention", "", _attention(AttentionPlaces())),
    Technique(
        "AttentionDropout",
        "attention",
        "0.2",
        _attention(AttentionPlaces(scores=partial(layers.AttentionDropout, 0.2))),
    ),
    Technique(
        "HeadDropout",
        "attention",
        "0.2",
        _attention(AttentionPlaces(heads=partial(layers.HeadDropout, 4, 0.2))),
    ),
    Technique("none", "words", "", _words(lambda embedding: embedding)),
    Technique(
        "EmbeddingDropout",
        "words",
        "0.2",
        _words(lambda embedding: layers.EmbeddingDropout(embedding, 0.2)),
    ),
)
