"""Variational LSTM and GRU against torch's and against a naive loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import mcdrop
from mcdrop import layers
from mcdrop.layers import recurrence
from tests.reference import recurrence as naive

CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (layers.VariationalLSTM, nn.LSTM),
    "gru": (layers.VariationalGRU, nn.GRU),
}
cells = pytest.mark.parametrize("cell", CELLS)
T, B, D, H = 6, 4, 3, 5
LENGTHS = torch.tensor([4, 6, 1, 4])


def pair(cell: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, nn.Module]:
    """A layer of ours and torch's, with the same weights."""
    mine, its = CELLS[cell]
    plain = {k: v for k, v in options.items() if not k.startswith("p") and k != "tied"}
    torch.manual_seed(0)
    other = its(D, H, **plain).to(dtype)
    layer = mine(D, H, **options).to(dtype)
    layer.load_state_dict(other.state_dict())
    return layer, other


def states(cell: str, count: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    many = 2 if cell == "lstm" else 1
    return tuple(torch.randn(count, B, H, dtype=dtype, requires_grad=True) for _ in range(many))


def packed(x: Tensor, batch_first: bool) -> PackedSequence:
    return pack_padded_sequence(x, LENGTHS, batch_first=batch_first, enforce_sorted=False)


def answer(layer: Any, x: Tensor, state: Any, given: str, ours: bool) -> tuple[Tensor, Any]:
    """Output, padded whatever went in, and the final states."""
    first = layer.batch_first
    hx = state if len(state) == 2 else state[0]
    if given == "padded":
        out, final = layer(x, hx)
    elif given == "lengths" and ours:
        out, final = layer(x, hx, lengths=LENGTHS)
    else:
        out, final = layer(packed(x, first), hx)
        assert isinstance(out, PackedSequence)
        out, lengths = pad_packed_sequence(out, batch_first=first)
        assert torch.equal(lengths, LENGTHS)
    return out, final if len(state) == 2 else (final,)


def gradients(layer: nn.Module, out: Tensor, final: Any, inputs: tuple[Tensor, ...]) -> Any:
    ramp = torch.linspace(-1.0, 2.0, out.numel(), dtype=out.dtype).reshape(out.shape)
    loss = (out * ramp).sum() + sum(f.square().sum() * (2 + i) for i, f in enumerate(final))
    return torch.autograd.grad(loss, (*inputs, *layer.parameters()))


@cells
@pytest.mark.parametrize("given", ["padded", "lengths", "packed"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("count", "both"), [(1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("way", ["evaluation", "rates are 0", "nothing is dropped"])
def test_without_masks_it_is_torchs_layer(
    cell: str,
    given: str,
    batch_first: bool,
    count: int,
    both: bool,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last way takes our own loop over time, with masks of ones."""
    rate = 0.0 if way == "rates are 0" else 0.5
    options = {"num_layers": count, "bidirectional": both, "batch_first": batch_first}
    rates = {"p": rate, "p_recurrent": rate, "p_output": rate, "tied": count == 1}
    layer, other = pair(cell, **options, **rates)
    layer.train(way != "evaluation")
    if way == "nothing is dropped":
        monkeypatch.setattr(recurrence.F, "dropout", lambda ones, p: ones)
    x = torch.randn((B, T, D) if batch_first else (T, B, D), requires_grad=True)
    state = states(cell, count * (1 + both), torch.float32)
    expected = answer(other, x, state, given, ours=False)
    got = answer(layer, x, state, given, ours=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    inputs = (x, *state)
    torch.testing.assert_close(
        gradients(layer, *got, inputs), gradients(other, *expected, inputs), rtol=1e-5, atol=1e-5
    )


class Recorded:
    """Stands for `F.dropout`, and keeps what it made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masks: list[Tensor] = []
        self._drop = nn.functional.dropout
        monkeypatch.setattr(recurrence.F, "dropout", self)

    def __call__(self, ones: Tensor, p: float) -> Tensor:
        self.masks.append(self._drop(ones, p))
        return self.masks[-1]


@cells
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_agrees_with_the_naive_loop(
    cell: str, tied: bool, both: bool, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, _ = pair(
        cell, torch.float64, num_layers=2, bidirectional=both, p=0.3, p_recurrent=0.4, tied=tied
    )
    drawn = Recorded(monkeypatch)
    x = torch.randn(T, B, D, dtype=torch.float64)
    out, final = layer(x, lengths=LENGTHS if ended else None)
    gates = {"lstm": 4, "gru": 3}[cell]
    assert {m.shape[1] for m in drawn.masks} == {1 if tied else gates}
    if not tied:
        assert any(not torch.equal(m[:, 0], m[:, 1]) for m in drawn.masks)
    params = list(layer.parameters())
    expected = naive.layers(
        cell,
        x,
        [params[i : i + 4] for i in range(0, len(params), 4)],
        [tuple(drawn.masks[i : i + 2]) for i in range(0, len(drawn.masks), 2)],
        LENGTHS if ended else [T] * B,
        1 + both,
    )
    final = list(final) if cell == "lstm" else [final]
    torch.testing.assert_close((out, final), expected, rtol=0, atol=1e-12)


@cells
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("p_recurrent", [0.0, 0.5])
def test_gradients(cell: str, tied: bool, p_recurrent: float) -> None:
    layer, _ = pair(
        cell, torch.float64, bidirectional=True, p=0.5, p_recurrent=p_recurrent, tied=tied
    )
    state = states(cell, 2, torch.float64)
    x = torch.randn(4, B, D, dtype=torch.float64, requires_grad=True)
    lengths = LENGTHS.clamp(max=4)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(1)
        begin, weights = rest[: len(state)], dict(zip(names, rest[len(state) :], strict=True))
        hx = begin if cell == "lstm" else begin[0]
        out, final = torch.func.functional_call(layer, weights, (x, hx, lengths))
        return (out, *final) if cell == "lstm" else (out, final)

    assert torch.autograd.gradcheck(run, (x, *state, *layer.parameters()), fast_mode=True)


@cells
def test_a_second_derivative_is_an_error_and_not_a_wrong_number(cell: str) -> None:
    layer, _ = pair(cell, p=0.5, p_recurrent=0.5)
    x = torch.randn(T, B, D, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        slope.sum().backward()


@cells
def test_functional_gradients(cell: str) -> None:
    layer, _ = pair(cell, p=0.5, p_recurrent=0.5)
    x = torch.randn(T, B, D, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return layer(x)[0].square().sum()

    (expected,) = torch.autograd.grad(run(x), x)
    torch.testing.assert_close(torch.func.grad(run)(x.detach()), expected)


def readable(cell: str, **rates: float) -> tuple[Any, float]:
    """A layer whose output tells what went in: gates are open, states are the hyperbolic tangent
    of x + ε·h (twice, in an LSTM, whose cell forgets)."""
    layer = CELLS[cell][0](H, H, batch_first=True, **rates).double()
    small = 2.0**-10
    opened = {"lstm": (40.0, -40.0, 0.0, 40.0), "gru": (40.0, -40.0, 0.0)}[cell]
    with torch.no_grad():
        for gate, bias in enumerate(opened):
            part = slice(gate * H, (gate + 1) * H)
            layer.weight_ih_l0[part] = torch.eye(H) if gate == 2 else 0.0
            layer.weight_hh_l0[part] = torch.eye(H) * small if gate == 2 else 0.0
            layer.bias_ih_l0[part], layer.bias_hh_l0[part] = bias, 0.0
    return layer, small


@cells
@pytest.mark.parametrize("which", ["input", "recurrent"])
def test_masks_do_not_vary_over_time(cell: str, which: str) -> None:
    layer, small = readable(cell, **{"p": 0.0, "p_recurrent": 0.0, f"p{SUFFIX[which]}": 0.4})
    torch.manual_seed(3)
    x = torch.rand(50, T, H, dtype=torch.float64) * 0.4 + 0.2
    out = layer(x)[0].detach()
    inner = torch.atanh(torch.atanh(out) if cell == "lstm" else out)  # m·x + ε·m·h
    if which == "input":
        before = torch.cat([torch.zeros_like(out[:, :1]), out[:, :-1]], 1)
        masks = (inner - small * before) / x
    else:
        masks = (inner - x)[:, 1:] / (small * out[:, :-1])
    torch.testing.assert_close(masks, masks[:, :1].expand_as(masks), rtol=0, atol=1e-8)
    mask = masks[:, 0]
    kept = mask > 0.5
    torch.testing.assert_close(mask, kept.double() / 0.6, rtol=0, atol=1e-8)
    assert len({tuple(row) for row in kept.tolist()}) > 10  # each row has its own
    # 250 units at 0.6: within 5 standard deviations but for one seed in a million
    assert abs(kept.double().mean() - 0.6) < 5 * (0.24 / 250) ** 0.5


SUFFIX = {"input": "", "recurrent": "_recurrent"}


def test_what_stands_beyond_a_row_does_not_matter() -> None:
    layer, _ = pair("lstm", bidirectional=True)
    x = torch.randn(T, B, D)
    spoilt = x.clone()
    spoilt[4:, 0] = float("nan")
    found = []
    for given in (x, spoilt):
        torch.manual_seed(1)
        out, (h, c) = layer(given, lengths=LENGTHS)
        found.append((out, h, c, gradients(layer, out, (h, c), ())))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@cells
@pytest.mark.parametrize(
    "bad", [{"p": -0.1}, {"p_recurrent": 1.5}, {"p_output": "0.5"}, {"num_layers": 0}]
)
def test_bad_arguments(cell: str, bad: dict[str, Any]) -> None:
    with pytest.raises(mcdrop.InputError, match=next(iter(bad))):
        CELLS[cell][0](D, H, **bad)


@cells
def test_bad_inputs(cell: str) -> None:
    layer, _ = pair(cell)
    x = torch.randn(T, B, D)
    wide = torch.zeros(1, B, H + 1)
    for call, said in (
        (lambda: layer(x[0]), "sequences"),
        (lambda: layer(x[:0]), "at least one step"),
        (lambda: layer(x[..., :2]), "3 features; got 2"),
        (lambda: layer(packed(x[..., :2], False)), "3 features; got 2"),
        (lambda: layer(x, (wide, wide) if cell == "lstm" else wide), "states"),
        (lambda: layer(x, wide if cell == "lstm" else (wide,)), "begins with"),
        (lambda: layer(x, lengths=[1, 2, 3, 7]), "from 1 to 6"),
        (lambda: layer(x, lengths=[0, 2, 3, 6]), "from 1 to 6"),
        (lambda: layer(x, lengths=[1, 2]), "each of 4 rows"),
        (lambda: layer(x, lengths=torch.ones(B)), "whole numbers"),
        (lambda: layer(packed(x, False), lengths=[1, 2, 3, 6]), "its own lengths"),
    ):
        for mode in (True, False):
            layer.train(mode)
            with pytest.raises(mcdrop.InputError, match=said):
                call()


@cells
def test_rates_are_attributes_that_may_be_set(cell: str) -> None:
    layer, other = pair(cell)
    x = torch.randn(T, B, D)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.p = layer.p_recurrent = 0.0
    torch.testing.assert_close(layer(x)[0], other(x)[0], rtol=0, atol=1e-6)
    layer.p_output = 1.0
    assert torch.equal(layer(x)[0], torch.zeros(T, B, H))
    assert torch.equal(layer(packed(x, False))[0].data, torch.zeros(int(LENGTHS.sum()), H))
