"""Which layers a schedule drives."""

import pytest
import torch
from torch import nn

from mcdrop import InputError, layers
from mcdrop.layers import VariationalLSTM
from mcdrop.schedules import LinearRate, rates
from tests.layers.family import FAMILY


class Recurrent(nn.Module):
    """A layer with two rates, one by the usual name."""

    def __init__(self, p: float | None = 0.1) -> None:
        super().__init__()
        if p is not None:
            self.p = p
        self.p_recurrent = 0.2


class Learned(nn.Module):
    """A rate that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(0.3))


def driven(model, sites=None):
    return LinearRate(model, 0.25, 0.5, steps=3, sites=sites).names


def everything() -> nn.Module:
    concrete = layers.ConcreteDropout(nn.Linear(4, 4), rows=10)
    return nn.ModuleDict(
        {
            "encoder": nn.TransformerEncoderLayer(4, 2, dropout=0.1),
            "plain": nn.Sequential(nn.Dropout(0), nn.Dropout2d(1), nn.AlphaDropout()),
            "ours": nn.Sequential(layers.DropPath(), layers.GaussianDropout()),
            "rnn": nn.LSTM(2, 2, num_layers=2),
            "single": nn.GRU(2, 2),
            "recurrent": Recurrent(),
            "concrete": concrete,
            "loss": nn.MultiMarginLoss(p=1),
            "pool": nn.LPPool1d(1, 2),
        }
    )


def test_every_module_with_a_rate_is_driven_and_no_other():
    model = everything()
    assert driven(model) == (
        "encoder.self_attn", "encoder.dropout", "encoder.dropout1", "encoder.dropout2",
        "plain.0", "plain.1", "plain.2", "ours.0", "ours.1", "rnn", "recurrent",
    )  # fmt: skip
    assert model["encoder"].self_attn.dropout == model["rnn"].dropout == 0.25
    assert model["plain"][1].p == model["recurrent"].p == 0.25
    assert model["recurrent"].p_recurrent == 0.2
    assert (model["loss"].p, model["single"].dropout) == (1, 0.0)
    assert model["concrete"].p == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("sites", "names"),
    [
        ("plain.*", ("plain.0", "plain.1", "plain.2")),
        (["plain.1", "o*"], ("plain.1", "ours.0", "ours.1")),
        ("*.self_attn", ("encoder.self_attn",)),
        ("rnn.dropout", ("rnn",)),
        ("recurrent.p", ("recurrent",)),
        ("recurrent.p_recurrent", ("recurrent.p_recurrent",)),
        ("*.p_*", ("recurrent.p_recurrent",)),
        (["recurrent*", "*.p_recurrent"], ("recurrent", "recurrent.p_recurrent")),
        ("*c*", ("encoder.self_attn", "encoder.dropout", "encoder.dropout1", "encoder.dropout2",
                 "recurrent")),
    ],
)  # fmt: skip
def test_patterns_choose(sites, names):
    model = everything()
    before = {rate.name: rate.value for rate in rates(model)}
    assert driven(model, sites) == names
    after = {rate.name: rate.value for rate in rates(model)}
    assert {name for name in after if after[name] != before[name]} <= set(names)
    assert all(after[name] == 0.25 for name in names)


@pytest.mark.parametrize("name", FAMILY)
def test_every_layer_of_the_family_is_driven_or_says_that_it_learns(name):
    layer = FAMILY[name].make()
    learned = "Concrete" in name
    if isinstance(getattr(layer, "p", None), float) and not learned:
        driven(layer)
        assert layer.p == 0.25
        layer.train()(FAMILY[name].example(3))
    else:
        with pytest.raises(InputError, match="learned: " if learned else "can be set: none"):
            driven(layer)


def test_a_list_of_layers_a_shared_layer_and_a_layer_alone():
    shared = nn.Dropout()
    assert driven([shared, nn.Sequential(nn.ReLU(), nn.Dropout())]) == ("0", "1.1")
    assert driven(nn.Sequential(shared, nn.ReLU(), shared)) == ("0",)
    assert driven(shared) == ("Dropout",)
    assert driven(Recurrent(), "p_recurrent") == ("p_recurrent",)


@pytest.mark.parametrize(
    ("model", "sites", "words"),
    [
        (nn.Linear(2, 2), None, "no layer whose rate can be set; rates that can be set: none"),
        ([], None, "no layer whose rate"),
        (Learned(), None, r"learned: 'Learned' \(Learned\), which gradients set"),
        (Recurrent(None), None, "if sites= names them: 'p_recurrent'"),
        ([nn.Dropout(), nn.ReLU()], None, "layer 1 of the list, ReLU, has no rate"),
        ([nn.Dropout(), Learned()], None, "layer 1 of the list.*which gradients set"),
        ([nn.Dropout(), "x"], None, "all of them modules; got list"),
        ("model", None, "all of them modules; got str"),
        (everything(), "concrete", "matches only learned rates.*'concrete' .ConcreteDropout"),
        (everything(), ["plain.0", "nope"], "'nope' matches no layer with a rate"),
        (everything(), 3, "sites must be a pattern"),
        (everything(), [], "sites must be a pattern"),
    ],
)
def test_what_cannot_be_driven_is_refused_with_the_reason(model, sites, words):
    with pytest.raises(InputError, match=words):
        driven(model, sites)


def test_second_rates_of_variational_recurrences_move_when_they_are_named():
    lstm = VariationalLSTM(3, 4, p=0.1, p_recurrent=0.2)
    driven(nn.Sequential(lstm), "*.p_recurrent")
    assert (lstm.p, lstm.p_recurrent, lstm.p_output) == (0.1, 0.25, 0.0)
    driven(nn.Sequential(lstm))
    assert (lstm.p, lstm.p_output) == (0.25, 0.0)


def test_a_learned_rate_that_went_astray_is_still_one():
    layer = layers.ConcreteDropout(nn.Linear(2, 2), 10)
    nn.init.constant_(layer.logit, float("nan"))
    (rate,) = rates(nn.Sequential(layer))
    assert rate.learned
    assert rate.value != rate.value
