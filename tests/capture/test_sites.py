"""Which sites are found, and what is said of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from tests import zoo

Described = list[tuple[str, str, float | None, tuple[int | None, ...]]]

EXPECTED: dict[str, Described] = {
    "dropout": [("drop", "dropout", 0.4, (1, 16))],
    "functional": [("dropout_0", "dropout", 0.3, (1, 8)), ("dropout_1", "dropout", 0.2, (1, 8))],
    "dropout2d": [("drop", "feature_dropout", 0.3, (1, 6, 1, 1))],
    "alpha": [("body.2", "alpha_dropout", 0.2, (1, 12))],
    "feature_alpha": [("drop", "feature_alpha_dropout", 0.2, (1, 5, 1))],
    "attention": [("attention.attention", "attention", 0.3, (1, 2, 5, 5))],
    "attention_weights": [("attention", "dropout", 0.3, (2, 5, 5))],
    "sdpa_causal": [("attention", "attention", 0.25, (1, 2, 5, 5))],
    "folded_heads": [("drop", "dropout", 0.4, (2, 5, 5))],
    "time_major": [("drop", "dropout", 0.4, (5, 6))],
    "lstm": [("rnn.layer0", "rnn", 0.3, (5, 1, 5)), ("rnn.layer1", "rnn", 0.3, (5, 1, 5))],
    "gru_batch_second": [("rnn.layer0", "rnn", 0.3, (5, 1, 5))],
    "drop_path": [
        ("bernoulli_0", "bernoulli", 0.3, (1, 1)),
        ("bernoulli_1", "bernoulli", 0.3, (1, 1)),
    ],
    "weight_drop": [("dropout", "dropout", 0.3, (3, 6))],
    "two_inputs": [("drop", "dropout", 0.5, (1, 8))],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_sites_are_named_and_described(name: str) -> None:
    found = [(s.name, s.kind, s.p, s.shape) for s in zoo.program(name).sites]
    assert [f[:2] + f[3:] for f in found] == [e[:2] + e[3:] for e in EXPECTED[name]]
    assert [f[2] for f in found] == pytest.approx([e[2] for e in EXPECTED[name]])


def test_hand_written_masks_have_rates() -> None:
    kinds = [(s.kind, s.p and round(s.p, 6)) for s in zoo.program("noise").sites]
    assert kinds == [
        ("bernoulli", 0.2),
        ("bernoulli", 0.1),
        ("bernoulli", 0.1),
        ("bernoulli", None),
        ("normal", None),
        ("uniform", None),
        ("normal", None),
        ("bernoulli", 0.5),
        ("exponential", None),
    ]


def test_every_dropout_of_bert_is_found() -> None:
    sites = {site.name: site.kind for site in zoo.program("bert").sites}
    layers = {f"bert.encoder.layer.{i}" for i in (0, 1)}
    assert set(sites) == {
        "bert.embeddings.dropout",
        "dropout",
        *(f"{layer}.attention.self.attention" for layer in layers),
        *(f"{layer}.attention.output.dropout" for layer in layers),
        *(f"{layer}.output.dropout" for layer in layers),
    }
    assert sites["bert.encoder.layer.0.attention.self.attention"] == "attention"


def test_the_fused_fast_path_does_not_swallow_dropout() -> None:
    names = [site.name for site in zoo.program("transformer").sites]
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        for part in ("self_attn.attention", "dropout", "dropout1", "dropout2"):
            assert f"{layer}.{part}" in names


@pytest.mark.parametrize(
    ("name", "outer", "folded"),
    [
        ("attention_weights", 1, True),
        ("folded_heads", None, True),
        ("time_major", None, True),
        ("transformer", 1, False),
    ],
)
def test_rows_are_found_inside_folded_axes(name: str, outer: int | None, folded: bool) -> None:
    layout = zoo.program(name).sites[0].layout
    assert layout is not None
    assert (layout.outer, layout.folded) == (outer, folded)


def test_selection_by_pattern_switches_the_rest_off() -> None:
    module, x = zoo.build("transformer")
    program = mcdrop.capture(module, x, sites="encoder.layers.1.*")
    assert [s.name for s in program.active] == [
        s.name for s in program.sites if s.name.startswith("encoder.layers.1.")
    ]
    mc = mcdrop.MCDropout(program, task="regression")
    assert mc.sample(x, samples=4).std(0).max() > 0
    everything = mcdrop.MCDropout(zoo.program("transformer"), task="regression")
    assert torch.equal(mc.deterministic(x), everything.deterministic(x))
    # a site keeps its masks when others are switched off
    index = {s.name: s.index for s in zoo.program("transformer").sites}
    assert all(index[s.name] == s.index for s in program.active)


def test_a_pattern_that_matches_nothing_lists_the_sites() -> None:
    module, x = zoo.build("dropout")
    with pytest.raises(mcdrop.InputError, match=r"'haed\.\*' matches no site.*'drop'"):
        mcdrop.capture(module, x, sites="haed.*")


def test_one_module_called_twice_is_two_sites() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(self.drop(x) + 1)

    names = [site.name for site in mcdrop.capture(Twice(), torch.zeros(1, 4)).sites]
    assert names == ["drop_0", "drop_1"]
