"""Layers where torch puts other weights, other types or other axes around them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import mcdrop
from mcdrop import layers
from tests.layers.family import FAMILY, Member, net

members = pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY.keys())
rnns = pytest.mark.parametrize("rnn", [layers.VariationalLSTM, layers.VariationalGRU])


@members
@pytest.mark.parametrize("training", [False, True])
def test_weights_of_functional_call_are_those_of_a_state(member: Member, training: bool) -> None:
    model, x = net(member).train(training), member.example(3)
    other = net(member, seed=7).train(training).state_dict()
    torch.manual_seed(1)
    called = torch.func.functional_call(model, other, (x,))
    model.load_state_dict(other)
    torch.manual_seed(1)
    torch.testing.assert_close(called, model(x))


@rnns
def test_parametrized_weights_count_in_evaluation(rnn: type[nn.Module]) -> None:
    class Zero(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return torch.zeros_like(weight)

    layer = rnn(3, 4, bias=False).eval()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parametrize.register_parametrization(layer, name, Zero())
    assert layer(torch.ones(5, 2, 3))[0].abs().max() == 0.0


@rnns
def test_weight_drop_acts_where_nothing_else_is_dropped(rnn: type[nn.Module]) -> None:
    """The recurrent layer of Merity et al. 2018."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            inside = rnn(3, 4, batch_first=True, p=0.0, p_recurrent=0.0)
            self.rnn = layers.DropConnect(inside, 0.5, ["weight_hh_l0"])

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    x = torch.randn(2, 5, 3)
    mc = mcdrop.MCDropout(Net(), x, task="regression", dynamic_axes={"x": {1: (1, 20)}})
    assert [site.kind for site in mc.program.sites] == ["dropout"]
    longer = mc.sample(torch.cat([x, x], 1), samples=16)
    assert longer.std(0).max() > 1e-3
    torch.testing.assert_close(longer[:, :, :5], mc.sample(x, samples=16))


@rnns
def test_a_free_time_axis_without_masks(rnn: type[nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = rnn(3, 4, 2, batch_first=True, p=0, p_recurrent=0, p_output=0.3)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    model, x = Net(), torch.randn(2, 7, 3)
    mc = mcdrop.MCDropout(
        model, x[:, :4], task="regression", dynamic_axes={"x": {1: (1, 20)}}, engine="loop"
    )
    torch.testing.assert_close(mc.deterministic(x), model.eval()(x))


@rnns
def test_a_packed_sequence_is_refused_by_capture_with_the_way_out(rnn: type[nn.Module]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = rnn(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            lengths = torch.full((x.shape[0],), x.shape[1])
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    with pytest.raises(mcdrop.CaptureError, match="Pass the padded tensor, and lengths="):
        mcdrop.capture(Net(), torch.randn(2, 5, 3))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo's own, of outputs
@rnns
@pytest.mark.parametrize("training", [False, True])
def test_recurrent_layers_are_left_out_of_compilation_as_torchs_are(
    rnn: type[nn.Module], training: bool
) -> None:
    layer = rnn(3, 4).train(training)
    x = torch.randn(5, 2, 3, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager")
    torch.manual_seed(0)
    expected = layer(x)[0]
    torch.manual_seed(0)
    out = compiled(x)[0]
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert x.grad is not None


class Folded(nn.Module):
    """A layer over places that are folded into the batch, rows or time slower."""

    def __init__(self, layer: nn.Module, time_first: bool) -> None:
        super().__init__()
        self.linear, self.layer, self.time_first = nn.Linear(6, 6), layer, time_first

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.time_first else x
        h = self.linear(x)
        y = self.layer(h.flatten(0, 1)).reshape(h.shape)
        return y.transpose(0, 1) if self.time_first else y


class ByHand(nn.Module):
    """A mask of a user's own, one number for each row that it gets."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand((x.shape[0], 1)) < 0.5) / 0.5 if self.training else x


class Halves(nn.Module):
    """A layer for sequences, over two steps of three features."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x.reshape(x.shape[0], 2, 3))
        return (y[0] if isinstance(y, tuple) else y).flatten(1)


FOLDED = {
    "dropout": lambda: nn.Dropout(0.5),
    "drop_path": lambda: layers.DropPath(0.5),
    "group": lambda: layers.GroupDropout(3, 0.5),
    "head": lambda: Halves(layers.HeadDropout(3, 0.5)),
    "locked": lambda: Halves(layers.LockedDropout(0.5)),
    "lstm": lambda: Halves(layers.VariationalLSTM(3, 3, batch_first=True)),
    "by_hand": ByHand,
}


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_a_row_has_its_own_masks_where_places_are_folded_in(
    name: str, time_first: bool, masks: str
) -> None:
    torch.manual_seed(0)
    model, x = Folded(FOLDED[name](), time_first), torch.randn(4, 5, 6)
    mc = mcdrop.MCDropout(model, x, task="regression", masks=masks)
    together = mc.sample(x, samples=16)
    alone = mc.sample(x[1:2], samples=16, first_row=1)
    torch.testing.assert_close(alone, together[:, 1:2], rtol=1e-4, atol=1e-5)
    places = together.std(0).flatten(2).max(-1).values
    assert (places > 1e-3).all()
    if masks == "shared":  # one function for all rows, and places with masks of their own
        same = mc.sample(x[:1].repeat(2, 1, 1), samples=16)
        torch.testing.assert_close(same[:, 0], same[:, 1])


def test_dropout_under_autocast_inside_the_model() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)
            self.dropout, self.path = nn.Dropout(0.5), layers.DropPath(0.5)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.last(self.path(self.dropout(self.first(x)))).float()

    model, x = Net(), torch.randn(3, 6)
    found = [
        mcdrop.MCDropout(model, x, task="regression", engine=engine)
        for engine in ("loop", "batched")
    ]
    assert [site.kind for site in found[0].program.sites] == ["dropout", "dropout"]
    samples = [mc.sample(x, samples=16) for mc in found]
    assert samples[0].std(0).max() > 1e-2
    torch.testing.assert_close(samples[0], samples[1], rtol=0.02, atol=0.02)
    torch.testing.assert_close(found[0].deterministic(x), model.eval()(x), rtol=0.02, atol=0.02)


def test_free_axes_must_be_wide_enough_for_what_was_traced() -> None:
    """DropBlock cuts its squares to the map, by a `min` that a trace fixes."""
    model, x = nn.Sequential(layers.DropBlock(0.3, 7)), torch.randn(3, 2, 8, 8)
    with pytest.raises(mcdrop.CaptureError, match=r"allows inputs of the shapes .*\[3, 2, 4, 4\]"):
        mcdrop.capture(model, x, dynamic_axes={"input": {2: (4, 16), 3: (4, 16)}})
    mcdrop.capture(model, x, dynamic_axes={"input": {2: (7, 16), 3: (7, 16)}})


def test_a_concrete_layer_without_storage_changes_its_mode() -> None:
    layer = layers.ConcreteDropout(nn.Linear(2, 2), 10).to("meta")
    assert not layer.eval().training


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.DropBlock(0.5, 2), (0, 3, 4, 4)),
        (layers.DropBlock(0.5, 2), (2, 3, 0, 4)),
        (layers.DropPath(0.5), (0, 3)),
        (layers.AttentionDropout(0.5), (0, 3)),
        (layers.EmbeddingDropout(nn.Embedding(4, 2), 0.5), (0, 3)),
        (layers.VariationalLSTM(3, 4), (5, 0, 3)),
        (layers.VariationalGRU(3, 4), (5, 0, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_no_rows_are_no_error(layer: nn.Module, shape: tuple[int, ...]) -> None:
    words = isinstance(layer, layers.EmbeddingDropout)
    x = torch.zeros(shape, dtype=torch.int64 if words else torch.float32)
    for training in (True, False):
        y = layer.train(training)(x)
        y = y[0] if isinstance(y, tuple) else y
        assert y.numel() == 0
