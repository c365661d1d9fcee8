"""Variational LSTM and GRU in programs: one node, engines, artifacts, hostile operands."""

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

import mcdrop
from mcdrop import layers
from mcdrop.program import variational_rnn as operation
from mcdrop.program.codec import encode
from mcdrop.program.program import Program
from tests.layers.test_recurrence import CELLS, LENGTHS, B, D, H, T, cells

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


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
