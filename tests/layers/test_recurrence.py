"""Variational LSTM and GRU against torch's, against a naive loop, and in programs."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import mcdrop
from mcdrop import layers
from mcdrop.layers import recurrence
from mcdrop.program import variational_rnn as operation
from mcdrop.program.codec import encode
from mcdrop.program.program import Program
from tests.reference import recurrence as naive

CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (layers.VariationalLSTM, nn.LSTM),
    "gru": (layers.VariationalGRU, nn.GRU),
}
cells = pytest.mark.parametrize("cell", CELLS)
T, B, D, H = 6, 4, 3, 5
LENGTHS = torch.tensor([4, 6, 1, 4])
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


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


class Words(nn.Module):
    """Words to classes: dropped word types, then a variational layer."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.embedding = layers.EmbeddingDropout(nn.Embedding(20, D), 0.1)
        self.rnn = CELLS[cell][0](D, H, batch_first=True, p=0.2, p_recurrent=0.2)
        self.out = nn.Linear(H, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.rnn(self.embedding(words))[0][:, -1])


@cells
def test_words_end_to_end(cell: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, words = Words(cell), torch.randint(20, (64, T))
    target = (words[:, -1] < 10).long()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(words), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    axes = {"words": {1: (1, 50)}}
    made = {
        engine: mcdrop.MCDropout(
            model, words[:3], task="classification", engine=engine, dynamic_axes=axes
        )
        for engine in ("loop", "batched")
    }
    made["loop"].save(tmp_path / "1", name="words")
    made["loaded"] = mcdrop.load(tmp_path / "1")
    for steps in (1, 2, T, 50):
        asked = torch.randint(20, (5, steps))
        expected = made["loop"].sample(asked, samples=8, seed=1)
        assert expected.std(0).max() > 1e-3
        for mc in made.values():
            torch.testing.assert_close(mc.sample(asked, samples=8, seed=1), expected, **CLOSE)
            torch.testing.assert_close(mc.deterministic(asked), model.eval()(asked), **CLOSE)
    assert made["loop"].predict(words, samples=20).mean.shape == (64, 2)


class Ending(nn.Module):
    """A layer told where rows end; what it returns is each row's last states, and the output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        out, final = self.rnn(x, lengths=lengths)
        final = torch.cat(final) if isinstance(final, tuple) else final
        return torch.cat([final.transpose(0, 1).flatten(1), out.flatten(1)], 1)


@cells
@pytest.mark.parametrize("tied", [True, False])
def test_lengths_travel(cell: str, tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = CELLS[cell][0](D, H, 2, batch_first=True, bidirectional=True, tied=tied)
    model, x = Ending(layer), torch.randn(B, T, D)
    made = {
        engine: mcdrop.MCDropout(
            model, (x, LENGTHS), task="regression", engine=engine, masks="independent"
        )
        for engine in ("loop", "batched", "eager")
    }
    made["loop"].save(tmp_path / "1", name="net")
    made["loaded"] = mcdrop.load(tmp_path / "1")
    expected = made["loop"].sample((x, LENGTHS), samples=6, seed=1)
    for mc in made.values():
        torch.testing.assert_close(mc.sample((x, LENGTHS), samples=6, seed=1), expected, **CLOSE)
        off = mc.deterministic((x, LENGTHS))
        torch.testing.assert_close(off, model.eval()(x, LENGTHS), **CLOSE)
    # a program is asked what a layer would refuse: it stays within the sequence
    odd = made["batched"].sample((x, torch.tensor([0, -7, 99, 2**40])), samples=4)
    assert odd.isfinite().all()
    empty = odd[:, :2, -T * 2 * H :]
    assert torch.equal(empty, torch.zeros_like(empty))


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


def _nodes(graph: Any) -> list[Any]:
    return [node for node in graph.nodes if node.op == operation.VARIATIONAL_RNN]


def _program(cell: str = "lstm", **options: Any) -> tuple[Program, nn.Module, Tensor]:
    torch.manual_seed(0)
    model = Ending(CELLS[cell][0](D, H, batch_first=True, **options))
    x = torch.randn(B, T, D)
    return mcdrop.capture(model, (x, LENGTHS), dynamic_axes={"x": {1: (1, 50)}}), model, x


@cells
def test_one_node_and_no_mask_where_a_site_is_off(cell: str) -> None:
    model = nn.Sequential(First(CELLS[cell][0](D, H, 2, batch_first=True)), nn.Dropout(0.3))
    program = mcdrop.capture(model, torch.randn(B, T, D), sites=["1"])
    for graph in (program.deterministic, program.stochastic):
        nodes = _nodes(graph)
        assert len(nodes) == 2
        assert all(node.args[index] is None for node in nodes for index in operation.MASKS)
    assert not _nodes(program.tail)
    half = mcdrop.capture(model, torch.randn(B, T, D), sites=["0.rnn_1", "1"])
    assert [
        [node.args[i] is None for i in operation.MASKS] for node in _nodes(half.stochastic)
    ] == [
        [True, False],
        [True, True],
    ]


class First(nn.Module):
    """A layer's output alone."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


@cells
@pytest.mark.parametrize("masks", ["shared", "independent"])
def test_weights_of_each_sample(cell: str, masks: str) -> None:
    """Weight drop: samples cannot join the rows."""
    torch.manual_seed(0)
    rnn = First(CELLS[cell][0](D, H, batch_first=True))
    model = layers.DropConnect(rnn, 0.3, ["rnn.weight_hh_l0"])
    x = torch.randn(B, T, D)
    loop, batched = (
        mcdrop.MCDropout(model, x, task="regression", engine=engine, masks=masks).sample(
            x, samples=6, seed=2
        )
        for engine in ("loop", "batched")
    )
    torch.testing.assert_close(batched, loop, **CLOSE)


@cells
@pytest.mark.parametrize("tied", [True, False])
def test_products_block_by_block(cell: str, tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = First(CELLS[cell][0](D, H, 2, batch_first=True, bidirectional=True, tied=tied))
    x = torch.randn(B, T, D)
    mc = mcdrop.MCDropout(model, x, task="regression", engine="batched")
    whole = mc.sample(x, samples=5, seed=1)
    monkeypatch.setattr(operation, "_BLOCK", 1)
    torch.testing.assert_close(mc.sample(x, samples=5, seed=1), whole, **CLOSE)


@cells
def test_samples_have_the_distribution_of_training_passes(cell: str) -> None:
    """Means of 2,000 passes each: 48 differences within 5 standard errors, but for 3 in 100,000."""
    torch.manual_seed(0)
    layer = First(CELLS[cell][0](D, H, batch_first=True, p=0.3, p_recurrent=0.3))
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(T * H, 3)).train()
    x, n = torch.randn(B, T, D), 2_000
    with torch.no_grad():
        rows = model(x.repeat(n, 1, 1)).unflatten(0, (n, B)).double()
    mc = mcdrop.MCDropout(model, x, task="regression", sampling="iid", masks="independent")
    drawn = mc.sample(x, samples=n, seed=5).double()
    for power in (1, 2):
        a, b = rows**power, drawn**power
        error = ((a.var(0) + b.var(0)) / n).sqrt()
        assert ((a.mean(0) - b.mean(0)) / error).abs().max() < 5


HOSTILE: dict[str, dict[int, Any]] = {
    "none": {},
    "mode": {0: "elman"},
    "mode of other weights": {0: "gru"},
    "no sequence": {1: "h"},
    "input of another type": {1: "integers"},
    "one state": {2: ("h",)},
    "three states": {2: ("h", "h", "h")},
    "no states": {2: ()},
    "state of another size": {2: ("wide", "wide")},
    "state of other rows": {2: ("one_row", "one_row")},
    "mask of other features": {3: "recurrent"},
    "mask of other gates": {4: "two_gates"},
    "mask without gates": {4: "h"},
    "mask is a number": {4: 0.5},
    "no weights": {5: ()},
    "three weights": {5: ("w_ih", "w_hh", "b")},
    "weights in another order": {5: ("w_hh", "w_ih", "b", "b")},
    "weights are text": {5: "text"},
    "lengths of another type": {6: "h"},
    "lengths of other rows": {6: "two"},
    "direction is text": {7: "backwards"},
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_operands_are_an_artifact_error(attack: str, tmp_path: Path) -> None:
    program, _, _ = _program()
    (node,) = _nodes(program.graph)
    Ref, Node = type(node.args[1]), type(node)
    made = {
        "h": node.args[2][0],
        "recurrent": node.args[4],
        **dict(zip(("w_ih", "w_hh", "b"), node.args[5], strict=False)),
    }
    h, mask = made["h"], made["recurrent"]
    extra = {
        "integers": ("aten._to_copy.default", (node.args[1],), (("dtype", torch.int64),)),
        "wide": ("aten.cat.default", ((h, h), 1), ()),
        "one_row": ("aten.slice.Tensor", (h, 0, 0, 1), ()),
        "two_gates": ("aten.cat.default", ((mask, mask), 1), ()),
        "two": ("aten.slice.Tensor", (Ref("lengths"), 0, 0, 1), ()),
    }
    added = [Node(f"evil_{name}", op, args, kwargs) for name, (op, args, kwargs) in extra.items()]
    made.update({name: Ref(f"evil_{name}") for name in extra})

    def swapped(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(made[name] for name in value)
        return made.get(value, value) if isinstance(value, str) else value

    args = list(node.args)
    for index, value in HOSTILE[attack].items():
        args[index] = swapped(value)
    nodes: list[Any] = []
    for one in program.graph.nodes:
        nodes.extend([*added, replace(one, args=tuple(args))] if one is node else [one])
    evil = replace(program, graph=replace(program.graph, nodes=tuple(nodes)))
    refused = pytest.raises(mcdrop.ArtifactError, match="does not run on the declared inputs")
    with refused if args != list(node.args) else nullcontext():
        _saved_anyway(program, evil, tmp_path)


def _saved_anyway(sound: Program, evil: Program, folder: Path) -> None:
    """What an author with other tools than ours would write, loaded."""
    path = mcdrop.MCDropout(sound, task="regression", engine="loop").save(folder / "1", name="net")
    (path / "graph.json").write_bytes(encode(evil.graph, sound.sites))
    manifest = json.loads((path / "model.json").read_text())
    digest = hashlib.sha256((path / "graph.json").read_bytes()).hexdigest()
    manifest["files"]["graph"] = digest
    (path / "model.json").write_text(json.dumps(manifest))
    mcdrop.load(path)


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
