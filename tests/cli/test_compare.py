"""`mcdrop compare` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from mcdrop.cli.app import app


def test_compare_prints_a_table_and_writes_files(tmp_path: Path) -> None:
    arguments = ["compare", "diabetes", "--technique", "DropPath", "--folds", "2", "--epochs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "DropPath" in result.output
    assert "none (dense net)" in result.output
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [outcome["technique"] for outcome in found[0]["outcomes"]] == ["none", "DropPath"]
    assert (tmp_path / "out" / "comparison.md").read_text().startswith("## diabetes\n\n| technique")
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5_000
    again = CliRunner().invoke(app, ["compare", "--output", str(tmp_path / "out")])
    assert again.exit_code == 1  # at once, and not after minutes
    assert "holds comparison.json" in again.output


def test_a_file_in_the_place_of_the_folder_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["compare", "--output", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "is a file" in result.output


def test_a_technique_that_is_none_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare", "--technique", "Dropin"])
    assert result.exit_code == 1
    assert "no technique is called 'Dropin'" in result.output
