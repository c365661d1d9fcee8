"""The page of the family: its code runs, its table names every layer, its figures were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.techniques import filled
from mcdrop import layers
from mcdrop.compare import DATA, TECHNIQUES, Comparison
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
