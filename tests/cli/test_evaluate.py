"""`mcdrop evaluate` as a user meets it."""

import json

import pytest


def table(path, rows, heading="a,b,c,d,target"):
    path.write_text("\n".join([heading, *rows]) + "\n")
    return path


@pytest.fixture
def sound(tmp_path):
    return table(tmp_path / "sound.csv", [f"{i / 7},1,-1,{i % 3},{i % 3}" for i in range(30)])


@pytest.fixture
def hopeless(tmp_path):
    return table(tmp_path / "hopeless.csv", ["1,2,x,4,cat"] * 25)


def test_a_report_is_made(mcdrop, artifacts, sound, tmp_path):
    result = mcdrop(
        "evaluate", artifacts / "classes/1", sound, "--report", tmp_path / "made/report"
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "made/report/metrics.json").read_text())
    assert document["data"] == {
        "source": "sound.csv",
        "rows": 30,
        "cases": 30,
        "bad_rows": 0,
        "bad": [],
    }
    assert (tmp_path / "made/report/report.html").exists()


def test_where_no_row_can_be_used_the_reasons_come_first(mcdrop, artifacts, hopeless, tmp_path):
    report = tmp_path / "report"
    result = mcdrop("evaluate", artifacts / "classes/1", hopeless, "--report", report)
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    assert told[0] == f"{hopeless}: 25 rows cannot be used and are left out:"
    assert told[1] == "  line 2: value 3 (c) is 'x', not a number"
    assert told[21] == "  and 5 more"
    assert told[22].startswith("mcdrop: hopeless.csv holds no labelled rows that could be used")
    assert not report.exists()


def test_bad_rows_of_other_data_are_told_though_none_is_left(mcdrop, artifacts, sound, hopeless):
    result = mcdrop("evaluate", artifacts / "classes/1", sound, "--ood", hopeless)
    assert result.exit_code == 1
    told = result.stderr.splitlines()
    assert told[0] == f"{hopeless}: 25 rows cannot be used and are left out:"
    assert told[-1].startswith("mcdrop: hopeless.csv holds no rows that could be used")


def test_a_report_that_is_there_is_kept(mcdrop, artifacts, sound, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    result = mcdrop("evaluate", artifacts / "classes/1", sound, "--report", tmp_path)
    assert result.exit_code == 1
    assert "holds metrics.json already" in result.stderr
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_a_single_sample_has_no_variance_to_evaluate(mcdrop, artifacts, sound):
    result = mcdrop("evaluate", artifacts / "number/1", sound, "--samples", "1")
    assert result.exit_code == 1
    assert "2 samples or more: the variance of a single one is unknown" in result.stderr


def test_a_row_is_an_evaluation_without_intervals(mcdrop, artifacts, tmp_path):
    one = table(tmp_path / "one.csv", ["1,2,3,4,1"])
    for model in ("classes", "number"):
        result = mcdrop("evaluate", artifacts / f"{model}/1", one, "--report", tmp_path / model)
        assert result.exit_code == 0, result.stderr
        document = json.loads((tmp_path / model / "metrics.json").read_text())
        assert document["data"]["rows"] == 1


def test_what_was_left_out_is_told(mcdrop, artifacts, sound, monkeypatch):
    from mcdrop.cli import held_out

    measured = held_out.evaluated

    def noted(*args, **kwargs):
        return measured(*args, **kwargs).model_copy(update={"notes": ("nothing of [this]",)})

    monkeypatch.setattr(held_out, "evaluated", noted)
    result = mcdrop("evaluate", artifacts / "number/1", sound)
    assert result.stdout.splitlines()[-1] == "nothing of [this]"
