"""The page of the family: its code runs, its table names every layer, its figures were measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from docs.techniques import filled, findings
from mcdrop import layers
from mcdrop.compare import DATA, TECHNIQUES, Comparison, training
from tests.docs.blocks import ROOT, blocks_of

PAGE = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "techniques" / "comparison.json"


def test_the_code_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks_of(PAGE):
        assert block.language == "python"
        exec(compile(block.text, "docs/techniques.md", "exec"), names)
    said = capsys.readouterr().out
    assert "('gaussian', 0.2), ('concrete'" in said
    assert "torch.Size([3, 1])" in said
    assert (tmp_path / "rates.jsonl").exists()
    assert names["spread"].program.sites[0].kind == "adaptive"


def test_the_table_names_every_layer() -> None:
    family = {name for name in layers.__all__ if name[0].isupper() and name != "Regularized"}
    assert {name for name in family if f"`{name}`" not in PAGE} == set()


def test_the_figures_are_those_of_the_run() -> None:
    found = [Comparison.from_dict(fields) for fields in json.loads(RESULTS.read_text())]
    assert [comparison.data for comparison in found] == list(DATA)
    for comparison in found:
        names = [(outcome.technique, outcome.net) for outcome in comparison.outcomes]
        assert names == [(technique.name, technique.net) for technique in TECHNIQUES]
    assert filled(PAGE, found) == PAGE


def test_the_page_says_why_some_are_not_below_their_net_alone() -> None:
    digits = Comparison.from_dict(json.loads(RESULTS.read_text())[0])
    outcomes = {o.technique: o for o in digits.outcomes if o.technique != "none"}
    above = {name: o for name, o in outcomes.items() if o.against_none > 0.0}
    (said,) = re.findall(r"Not below their net alone on digits, .*?: (.*?)\. ", PAGE)
    assert set(re.findall(r"`(\w+)`", said)) == above.keys()
    assert not any(outcome.worse for outcome in above.values())  # by less than two errors
    path, words = above["DropPath"], above["EmbeddingDropout"]
    assert path.off_against_none > 0.0
    assert abs(words.off_against_none) < words.off_against_none_error
    assert words.against_off > words.against_off_error
    alone = next(o for o in digits.outcomes if (o.technique, o.net) == ("none", words.net))
    assert words.calibration > 2.0 * alone.calibration
    for name in ("VariationalLSTM", "VariationalGRU"):
        rnn = outcomes[name]
        assert rnn.off_against_none < 0.0 < 2.0 * rnn.against_off_error < rnn.against_off
        alone = next(o for o in digits.outcomes if (o.technique, o.net) == ("none", rnn.net))
        assert rnn.calibration > 2.0 * alone.calibration


def test_findings_are_of_the_figures() -> None:
    found = [Comparison.from_dict(fields) for fields in json.loads(RESULTS.read_text())]
    named = {"none": 0.0, "StandardDropout": -0.3, "Dropout": 0.3, "GaussianDropout": 0.1}
    outcomes = tuple(
        replace(
            next(o for o in found[0].outcomes if (o.technique, o.net) == (name, "dense")),
            against_none=shift,
            against_none_error=0.1,
            off_against_none=-shift,
            off_against_none_error=0.1,
            against_off=shift,
            against_off_error=1.0,
            auroc=0.5 - shift,
            auroc_error=0.1,
            unfinished=3 if name == "Dropout" else 0,
        )
        for name, shift in named.items()
    )
    said = findings(replace(found[0], folds=3, seeds=2, outcomes=outcomes))
    assert "clearly lower for 1 of 3 (StandardDropout), clearly higher for 1 (Dropout)" in said[0]
    assert "clearly lower for 1 of 3 (Dropout), clearly higher for 1 (StandardDropout)" in said[1]
    assert "lower for 0 of 3 (none of them), clearly higher for 0 (none of them)" in said[2]
    assert said[3] == "Highest AUROC: StandardDropout, 0.800; clearly below 0.5: Dropout."
    assert said[4] == "Trainings that more epochs might have served: 3 of 24 (Dropout)."
    same = tuple(replace(o, unfinished=int(o.technique != "Dropout")) for o in outcomes)
    assert findings(replace(found[0], outcomes=same))[4].endswith("(all but Dropout).")


def test_the_page_says_how_trainings_end() -> None:
    assert training.PATIENCE == 20
    assert "ends after twenty epochs without a better one" in PAGE
