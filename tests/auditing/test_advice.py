"""Which rates are customary, and of which sites nothing is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import layers
from tests import zoo
from tests.layers.family import FAMILY, net


def audited(module: nn.Module, x: object) -> mcdrop.Audit:
    return mcdrop.audit(module, x, measure=False)


def stack(first: float, inside: float, last: float) -> nn.Sequential:
    layers = nn.Linear(4, 4), nn.ReLU(), nn.Dropout(inside), nn.Linear(4, 2)
    return nn.Sequential(nn.Dropout(first), *layers, nn.Dropout(last))


def messages(report: mcdrop.Audit) -> list[tuple[str | None, str]]:
    return [(f.site, f.message) for f in report.findings if f.check == "rate"]


def test_rates_that_are_customary_are_not_told() -> None:
    for first, inside in ((0.1, 0.3), (0.2, 0.5)):
        assert audited(stack(first, inside, 0.0), torch.zeros(1, 4)).findings == ()


def test_rates_that_depart_are_told_with_their_places() -> None:
    report = audited(stack(0.5, 0.1, 0.2), torch.zeros(1, 4))
    assert messages(report) == [
        ("0", "p = 0.5 at the input; 0.1 to 0.2 is customary"),
        ("3", "p = 0.1 at a hidden layer; 0.3 to 0.5 is customary"),
        (
            "5",
            "p = 0.2 at an output, where part of the answer is dropped; 0 is customary",
        ),
    ]
    assert {finding.level for finding in report.findings} == {"info"}
    assert [site.departs for site in report.sites] == [True, True, True]


def test_sites_of_one_rate_are_told_together() -> None:
    layers = [part for _ in range(6) for part in (nn.Linear(4, 4), nn.Dropout(0.2))]
    report = audited(nn.Sequential(*layers, nn.Linear(4, 2)), torch.zeros(1, 4))
    ((site, message),) = messages(report)
    assert site is None
    assert message.startswith("'1', '3', '5', '7' and 2 more: p = 0.2 at a hidden layer")


@pytest.mark.parametrize("name", ["attention_weights", "alpha", "drop_path", "weight_drop"])
def test_nothing_is_said_where_other_rates_are_customary(name: str) -> None:
    report = audited(*zoo.build(name))
    assert [site.advised for site in report.sites] == [None] * len(report.sites)
    assert messages(report) == []


@pytest.mark.parametrize(
    "name",
    ["ConcreteDropout", "VariationalDropout", "AdaptiveDropout", "MetaDropout", "DropBlock",
     "DropPath", "DropConnect", "HeadDropout", "HeadDropout-apart", "AttentionDropout"],
)  # fmt: skip
def test_nothing_is_said_of_techniques_with_rates_of_their_own(name: str) -> None:
    report = audited(net(FAMILY[name]), FAMILY[name].example(2))
    assert [site.advised for site in report.sites] == [None]
    assert report.sites[0].layer == name.removesuffix("-apart")


def test_a_transformer_has_lower_rates() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    report = audited(nn.Sequential(layer, nn.Linear(8, 2)), torch.zeros(1, 5, 8))
    kinds = {site.kind: site.advised for site in report.sites}
    assert kinds == {"attention": None, "dropout": (0.1, 0.5)}
    assert messages(report) == []


def test_recurrent_layers_are_hidden_ones() -> None:
    report = audited(*zoo.build("lstm"))
    assert [(site.kind, site.advised) for site in report.sites] == [("rnn", (0.3, 0.5))] * 2


class _WrittenOut(nn.Module):
    """Attention by hand, with a layer on its weights, and dropout behind it."""

    def __init__(self, weights: nn.Module, *, einsum: bool = False) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(4, 8), nn.Linear(8, 24)
        self.weights, self.einsum = weights, einsum
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(self.embed(x)).chunk(3, -1)
        weights = self.weights(torch.softmax(query @ key.transpose(1, 2), -1))
        mixed = torch.einsum("bts,bsd->btd", weights, value) if self.einsum else weights @ value
        return self.out(self.drop(mixed).mean(1))


@pytest.mark.parametrize("einsum", [False, True])
@pytest.mark.parametrize(
    "weights",
    [nn.Identity(), nn.Dropout(0.1), layers.StandardDropout(0.1), layers.AttentionDropout(0.1)],
    ids=lambda layer: type(layer).__name__,
)
def test_attention_written_by_hand_has_lower_rates(weights: nn.Module, *, einsum: bool) -> None:
    report = audited(_WrittenOut(weights, einsum=einsum), torch.randn(8, 5, 4))
    assert not [said for site, said in messages(report) if "customary" in said]
