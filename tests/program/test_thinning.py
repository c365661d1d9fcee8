"""What is thinned and what is not, and what the pass writes; the numbers are checked by engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop.program.graph import Ref
from mcdrop.program.thinning import Gathered, Thinning, thin_tail
from tests import thin_nets


def _thin(name: str) -> Thinning:
    return thin_tail(thin_nets.program(name), copy_cost=0)


@pytest.mark.parametrize("name", thin_nets.NETS)
def test_sites_are_thinned_or_masked_for_a_reason(name: str) -> None:
    program, net, thinning = thin_nets.program(name), thin_nets.net(name), _thin(name)
    found = {site.name: thinning.reasons.get(site.name, "thinned") for site in program.active}
    assert found.keys() == net.sites.keys()
    for site, expected in net.sites.items():
        assert expected in found[site], site
    thinned = {site.mask for site in program.active if net.sites[site.name] == "thinned"}
    assert set(thinning.thinned) == thinned
    assert len(thinning.taken) == net.taken


@pytest.mark.parametrize("name", thin_nets.NETS)
def test_the_graph_is_sound_and_reads_the_masks_that_are_left(name: str) -> None:
    program, thinning = thin_nets.program(name), _thin(name)
    graph = thinning.graph
    assert graph.problem() is None
    assert dict(graph.outputs).keys() == dict(program.tail.outputs).keys()
    masks = {name for name in graph.inputs if name.startswith("mask:")}
    assert masks == {site.mask for site in program.active} - set(thinning.thinned)
    own = {part.name for part in thinning.gathered} | thinning.taken.keys()
    assert own == {name for name in graph.inputs if ":" in name} - masks
    assert own <= {ref for node in graph.nodes for ref in node.refs()}


def test_a_chain_gathers_each_weight_once_on_both_sides() -> None:
    thinning = _thin("chain")
    assert thinning.gathered == (
        Gathered("linear_1:weight", "w:3.weight", "matrix", "mask:1", "mask:0", 1, 2.0),
        Gathered("linear_1:bias", "w:3.bias", "vector", "mask:1"),
        Gathered("linear_2:weight", "w:6.weight", "matrix", "mask:2", "mask:1", 1, 1 / 0.7),
        Gathered("linear_2:bias", "w:6.bias", "vector", "mask:2"),
        Gathered("linear_3:weight", "w:9.weight", "matrix", None, "mask:2", 1, 1 / 0.9),
    )
    assert thinning.taken == {"kept:0": "mask:0"}
    # the ReLU is part of the layer, tanh is not, and the sites are gone
    ops = [(node.op, node.args[-1]) for node in thinning.graph.nodes]
    assert ops == [
        ("mcdrop.take", True),
        ("mcdrop.thin_linear", "relu"),
        ("mcdrop.thin_linear", ""),
        ("aten.tanh.default", Ref("linear_2")),
        ("mcdrop.thin_linear", ""),
    ]


def test_zero_weights_stand_for_units_where_a_copy_would_cost_more() -> None:
    """Each dropped input of a layer with 20 outputs saves 20 products, and half of them drop."""
    program = thin_nets.program("chain")
    taken, zeroed = thin_tail(program, copy_cost=10), thin_tail(program, copy_cost=10.1)
    assert (taken.zeroed, len(taken.taken)) == (frozenset(), 1)
    assert (zeroed.zeroed, len(zeroed.taken)) == ({"mask:0"}, 0)
    assert zeroed.gathered == taken.gathered
    assert "mcdrop.take" not in [node.op for node in zeroed.graph.nodes]
    # operations between the value and the layer are left to the units that are kept
    net = nn.Sequential(nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3))
    assert not thin_tail(mcdrop.capture(net, torch.randn(3, 6)), copy_cost=1e9).zeroed


def test_a_value_that_differs_by_sample_is_taken_as_such() -> None:
    takes = [n for n in _thin("two_readers_of_the_operand").graph.nodes if n.op == "mcdrop.take"]
    assert [node.args[-1] for node in takes] == [True, False]


def test_a_factor_that_cannot_be_moved_stays() -> None:
    thinning = _thin("factor_stays")
    (part,) = thinning.gathered
    assert part.scale == 1.0
    assert ["aten.mul.Tensor", 2.0] in [[n.op, n.args[-1]] for n in thinning.graph.nodes]


def test_pixels_of_a_channel_are_read_together() -> None:
    thinning = _thin("conv_to_linear")
    (part,) = [p for p in thinning.gathered if p.group != 1]
    assert part == Gathered("linear:weight", "w:7.weight", "matrix", "mask:2", "mask:1", 16, 1.0)


def test_statistics_of_normalisation_are_gathered() -> None:
    thinning = _thin("norm_before")
    vectors = [part.weight for part in thinning.gathered if part.form == "vector"]
    norm = ["w:2.weight", "w:2.bias", "w:2.running_mean", "w:2.running_var"]
    assert sorted(vectors) == sorted(["w:1.bias", *norm])
    assert not set(vectors) & set(thinning.graph.weights)


def test_weights_used_twice_are_gathered_for_each_use() -> None:
    thinning = _thin("shared_weights")
    uses = [part for part in thinning.gathered if part.weight == "w:a.weight"]
    assert [(part.inputs, part.outputs) for part in uses] == [("mask:0", "mask:1")]
    # the first use is in the trunk; a third one is whole on the way out
    net = thin_nets.Body(
        lambda m, x: m.a(m.third(m.a(m.second(m.a(m.first(x)))))),
        a=nn.Linear(6, 6),
        first=nn.Dropout(0.4),
        second=nn.Dropout(0.3),
        third=nn.Dropout(0.3),
    )
    parts = thin_tail(mcdrop.capture(net, torch.randn(3, 6))).gathered
    uses = [part for part in parts if part.weight == "w:a.weight"]
    assert [(part.inputs, part.outputs) for part in uses] == [
        ("mask:0", "mask:1"),
        ("mask:1", "mask:2"),
        ("mask:2", None),
    ]
    assert len({part.name for part in parts}) == len(parts)


def test_a_layer_whose_value_is_read_before_its_relu_keeps_it_apart() -> None:
    net = thin_nets.Body(
        lambda m, x: F.relu(h := m.a(m.drop(x))) - h, drop=nn.Dropout(0.4), a=nn.Linear(6, 4)
    )
    nodes = thin_tail(mcdrop.capture(net, torch.randn(3, 6)), copy_cost=0).graph.nodes
    assert [node.op for node in nodes] == [
        *("mcdrop.take", "mcdrop.thin_linear", "aten.relu.default", "aten.sub.Tensor")
    ]
    assert nodes[1].args[-1] == ""


def test_a_layer_whose_value_is_an_output_keeps_its_relu_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.a = nn.Dropout(0.4), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.a(self.drop(x))
            return h, F.relu(h)

    graph = thin_tail(mcdrop.capture(Two(), torch.randn(3, 6)), copy_cost=0).graph
    assert [node.op for node in graph.nodes][1:] == ["mcdrop.thin_linear", "aten.relu.default"]
    assert [name for _, name in graph.outputs] == [node.name for node in graph.nodes[1:]]


def test_nothing_to_thin_leaves_the_tail_as_it_is() -> None:
    thinning = _thin("tokens")
    assert thinning.graph == thin_nets.program("tokens").tail
    assert not thinning.thinned
    assert not thinning.gathered
    assert not thinning.taken


def test_a_site_that_no_wanted_output_needs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.drop = nn.Linear(6, 4), nn.Linear(4, 4), nn.Dropout(0.4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = torch.relu(self.a(x))
            return {"plain": h, "dropped": self.b(self.drop(h))}

    program = mcdrop.capture(Two(), torch.randn(3, 6))
    thinning = thin_tail(program.select("plain"))
    assert thinning.reasons == {"drop": "it does not reach the output"} or not thinning.reasons
    assert thin_tail(program).thinned == ("mask:0",)


def test_free_axes_behind_the_channels() -> None:
    net = nn.Sequential(
        nn.Dropout2d(0.3), nn.Conv2d(2, 4, 3), nn.Dropout2d(0.3), nn.Conv2d(4, 2, 3)
    )
    free = {"input": {2: (6, 32), 3: (6, 32)}}
    program = mcdrop.capture(net, torch.randn(3, 2, 8, 8), dynamic_axes=free)
    assert len(thin_tail(program).thinned) == 2


KEEP_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "threshold": lambda x: F.threshold(x, 0.1, 0.0),
    "times": lambda x: 3.0 * x,
    "over": lambda x: x / 3.0,
    "square": lambda x: x**2,
    "clamp": lambda x: x.clamp(-1.0, 1.0),
    "plus_zero": lambda x: x + 0.0,
    "expm1": torch.expm1,
    "floor_division": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
}
MOVE_ZERO: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "cos": torch.cos,
    "exp": torch.exp,
    "plus": lambda x: x + 1e-3,
    "from_one": lambda x: 1.0 - x,
    "clamp_above": lambda x: x.clamp(min=0.2),
    "power": lambda x: 2.0**x,
    "hardsigmoid": F.hardsigmoid,
    "reciprocal": lambda x: 1.0 / (x + 0.0),
    "softmax": lambda x: x.softmax(-1),
    "with_itself": lambda x: x * x,
    "cumsum": lambda x: x.cumsum(-1),
    "transposed": lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1),
    "select": lambda x: x.roll(1, 1),
}
HOMOGENEOUS = ("relu", "leaky_relu", "times", "over")


def _between(function: Callable[[Tensor], Tensor]) -> Thinning:
    net = thin_nets.Body(
        lambda m, x: m.b(function(m.drop(m.a(x)))),
        a=nn.Linear(6, 8),
        drop=nn.Dropout(0.4),
        b=nn.Linear(8, 3),
    )
    return thin_tail(mcdrop.capture(net, torch.randn(3, 6)))


@pytest.mark.parametrize("name", KEEP_ZERO)
def test_functions_that_keep_zero_are_passed(name: str) -> None:
    thinning = _between(KEEP_ZERO[name])
    assert thinning.thinned == ("mask:0",)
    folded = [part.scale != 1.0 for part in thinning.gathered if part.form == "matrix"]
    assert folded == [name in HOMOGENEOUS]


@pytest.mark.parametrize("name", MOVE_ZERO)
def test_functions_that_move_zero_or_mix_units_are_not(name: str) -> None:
    thinning = _between(MOVE_ZERO[name])
    assert not thinning.thinned
    assert list(thinning.reasons) == ["drop"]
