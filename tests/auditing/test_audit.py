"""The audit as a whole: what is listed, how it prints, and what it costs."""

from __future__ import annotations

import json
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import nn

import mcdrop
from mcdrop.demo.diabetes import DiabetesNet
from mcdrop.demo.digits import DigitsNet
from tests import zoo
from tests.layers.family import FAMILY, net

MODULE = import_module("mcdrop.auditing.audit")  # the package's attribute is the function


def levels(report: mcdrop.Audit) -> list[str]:
    return [finding.level for finding in report.findings]


def small() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Linear(4, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.ReLU()
    return nn.Sequential(*first, nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def test_the_audit_is_a_function_of_the_root() -> None:
    assert not isinstance(mcdrop.audit, ModuleType)
    assert mcdrop.audit.__module__ == "mcdrop.auditing.audit"


def test_sites_are_listed_and_printed_as_a_table() -> None:
    module, x = zoo.build("dropout")
    report = mcdrop.audit(module, x)
    assert report.findings == ()
    (site,) = report.sites
    assert (site.name, site.kind, site.layer, site.place, site.p) == (
        "drop", "dropout", "Dropout", "hidden", 0.4,
    )  # fmt: skip
    assert (site.shape, site.enabled, site.matters) == ((1, 16), True, True)
    text = str(report)
    assert "Head: 1 stochastic site\n" in "\n".join(map(str.rstrip, text.splitlines())) + "\n"
    row = next(line for line in text.splitlines() if "│ drop" in line)
    assert [cell.strip() for cell in row.split("│")[1:7]] == [
        "drop", "dropout", "hidden", "0.4", "0.3–0.5", "1×16",
    ]  # fmt: skip


def test_the_dictionary_is_plain_data() -> None:
    report = mcdrop.audit(small().eval(), torch.zeros(1, 4), rows=torch.randn(40, 4))
    told = json.loads(json.dumps(report.to_dict()))
    assert set(told) == {"model", "sites", "shifts", "findings", "rows", "samples", "seed"}
    assert (told["rows"], told["samples"], told["seed"]) == (40, 64, 0)
    first = told["sites"][0]
    assert (first["name"], first["place"], first["p"]) == ("1", "hidden", 0.3)
    assert (first["advised"], first["departs"], first["matters"]) == ([0.3, 0.5], False, True)
    assert first["difference"] >= 0
    assert first["standard_error"] > 0
    assert told["shifts"][0]["norm"] == "2"
    assert told["shifts"][0]["ratio"] > 1.2
    assert {"level", "check", "site", "message"} == set(told["findings"][0])


def test_batch_norms_are_a_table_of_their_own() -> None:
    text = str(mcdrop.audit(small().eval(), torch.zeros(1, 4), rows=torch.randn(40, 4)))
    assert "BatchNorms behind dropout" in text
    assert "[warning] 1: dropout in front of the BatchNorm '2'" in text


def test_a_model_without_sites_is_an_error() -> None:
    report = mcdrop.audit(nn.Linear(3, 2), torch.zeros(1, 3))
    assert levels(report) == ["error"]
    assert report.samples == 0


def test_layers_whose_rate_is_zero_are_named() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0))
            self.lstm = nn.LSTM(4, 4, num_layers=2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(self.first(x)[:, None])[0][:, 0]

    for model, told in (
        (Encoder(), "The rates of the layers 'first.1', 'lstm' are 0: set one above 0"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0)), "The rate of the layer '1' is 0"),
        (nn.Linear(3, 2), "Add dropout layers"),
    ):
        report = mcdrop.audit(model.eval(), torch.zeros(1, 3))
        (finding,) = report.findings
        assert finding.level == "error"
        assert finding.message.startswith("nothing random was found")
        assert told in finding.message
        lines = str(report).splitlines()
        assert lines[0] == f"{type(model).__name__}: 0 stochastic sites"
        assert lines[1].startswith("[error] nothing random")  # and no empty table between them


def test_a_layer_without_a_rate_beside_one_that_drops_is_no_error() -> None:
    drops = nn.Linear(3, 4), nn.Dropout(0.0), nn.ReLU(), nn.Dropout(0.4), nn.Linear(4, 2)
    report = mcdrop.audit(nn.Sequential(*drops).eval(), torch.randn(8, 3))
    assert [site.name for site in report.sites] == ["3"]
    assert "error" not in levels(report)


def test_rates_of_one_and_shared_noise_are_told() -> None:
    assert "all rows share" in mcdrop.audit(*zoo.build("weight_drop")).findings[0].message
    drops = nn.Linear(3, 4), nn.Dropout(1.0), nn.Dropout(0.5), nn.Linear(4, 2)
    report = mcdrop.audit(nn.Sequential(*drops), torch.ones(2, 3))
    assert "drops everything" in " ".join(f.message for f in report.findings)


def test_outputs_that_no_site_reaches_are_told() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.15)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sampled": self.drop(x), "plain": x + 1}

    (finding,) = mcdrop.audit(Two(), torch.ones(2, 3)).findings
    assert (finding.level, finding.check) == ("warning", "sites")
    assert finding.message == "no site reaches the output 'plain'"


def test_sites_that_the_selection_leaves_out_are_told_and_not_sampled() -> None:
    report = mcdrop.audit(small().eval(), torch.randn(8, 4), sites="6")
    assert [(s.name, s.enabled, s.matters) for s in report.sites] == [
        ("1", False, None),
        ("6", True, True),
    ]
    assert report.shifts == ()
    (finding,) = report.findings
    assert (finding.level, finding.site) == ("info", "1")
    assert "left out by the selection" in finding.message


def test_without_measuring_only_the_graph_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError

    for name in ("alone", "measured", "require_variance"):
        monkeypatch.setattr(MODULE, name, never)
    report = mcdrop.audit(small().eval(), torch.zeros(1, 4), measure=False)
    assert (report.rows, report.samples) == (0, 0)
    assert [site.place for site in report.sites] == ["hidden", "hidden"]
    assert [(s.norm, s.sites, s.ratio) for s in report.shifts] == [("2", ("1",), None)]
    assert ["not measured, as nothing was run" in f.message for f in report.findings] == [True]


def test_the_same_seed_gives_the_same_audit_and_leaves_the_model_alone() -> None:
    module, x = small(), torch.randn(8, 4)
    module.train()
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in module.state_dict().items()}
    first = mcdrop.audit(module, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in module.modules())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert mcdrop.audit(module, x) == first
    other = mcdrop.audit(module, x, seed=1)
    assert other.shifts[0].ratio != first.shifts[0].ratio


def test_sites_beyond_the_passes_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "PASSES", 32)
    parts = [part for _ in range(3) for part in (nn.Linear(4, 4), nn.Dropout(0.5))]
    report = mcdrop.audit(nn.Sequential(*parts, nn.Linear(4, 2)), torch.ones(2, 4))
    assert [site.matters for site in report.sites] == [True, True, None]
    assert "of 3 sites the first 2 were measured alone" in [f.message for f in report.findings]


def test_arguments_are_checked() -> None:
    module, x = zoo.build("dropout")
    for wrong in ({"samples": 15}, {"samples": 20.5}, {"seed": -1}, {"rows": torch.zeros(2, 5)}):
        with pytest.raises(mcdrop.InputError):
            mcdrop.audit(module, x, **wrong)


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_is_audited(name: str) -> None:
    torch.manual_seed(0)
    report = mcdrop.audit(net(FAMILY[name]), FAMILY[name].example(4), samples=16)
    assert [site.kind for site in report.sites] == list(FAMILY[name].kinds)
    assert all(site.matters for site in report.sites)
    assert "error" not in levels(report)
    assert str(report)


@pytest.mark.parametrize("name", ["transformer", "lstm", "gru_batch_second", "noise", "bert"])
def test_nets_of_many_kinds_are_audited(name: str) -> None:
    report = mcdrop.audit(*zoo.build(name), samples=16)
    assert all(site.matters for site in report.sites)
    assert {"error", "warning"}.isdisjoint(levels(report))


def test_the_demo_models_are_audited() -> None:
    torch.manual_seed(0)
    digits = mcdrop.audit(DigitsNet(width=4).eval(), torch.rand(20, 1, 8, 8))
    assert [(s.name, s.place, s.p) for s in digits.sites] == [
        ("body.3", "hidden", 0.2),
        ("body.7", "hidden", 0.2),
        ("body.12", "hidden", 0.2),
        ("head.3", "hidden", 0.5),
    ]
    assert [(s.norm, s.sites) for s in digits.shifts] == [
        ("body.5", ("body.3",)),
        ("body.10", ("body.3", "body.7")),
    ]
    features, targets = torch.randn(50, 10), torch.randn(50, 1)
    diabetes = mcdrop.audit(DiabetesNet(features, targets, width=8).eval(), features)
    assert [site.departs for site in diabetes.sites] == [False, False]
    assert "error" not in levels(diabetes)
