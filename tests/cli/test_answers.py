import csv
import json
import os
import stat

import numpy as np
import pytest
import torch

from mcdrop.cli.answers import answers
from mcdrop.errors import InputError

CLASSES = ("cat", "dog", "owl, barn")


def batch(start, stop):
    generator = torch.Generator().manual_seed(start)
    mean = torch.rand(stop - start, 3, generator=generator)
    return {
        "predicted": mean.argmax(-1),
        "mean": mean,
        "entropy": torch.rand(stop - start, generator=generator, dtype=torch.float64),
        "samples": torch.full((stop - start,), 16),
    }


BATCHES = [batch(0, 4), batch(4, 6), batch(6, 7)]
WHOLE = {name: torch.cat([part[name] for part in BATCHES]).numpy() for name in BATCHES[0]}


def write(path, classes=CLASSES, batches=BATCHES, force=False):
    with answers(path, classes, force=force) as writer:
        for fields in batches:
            writer.write(fields)
    return path


def test_npz_holds_every_field_exactly(tmp_path):
    with np.load(write(tmp_path / "out.npz")) as found:
        assert set(found.files) == set(WHOLE)
        for name, array in WHOLE.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_csv_brings_every_value_back_exactly(tmp_path):
    with write(tmp_path / "out.csv").open(newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == [
        "predicted", "mean_cat", "mean_dog", "mean_owl, barn", "entropy", "samples"
    ]  # fmt: skip
    assert [row[0] for row in rows] == [CLASSES[i] for i in WHOLE["predicted"]]
    means = np.array([row[1:4] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(means, WHOLE["mean"])
    np.testing.assert_array_equal(np.array([row[4] for row in rows], float), WHOLE["entropy"])
    assert {row[5] for row in rows} == {"16"}


def test_csv_without_classes_counts_them(tmp_path):
    heading, first, *_ = write(tmp_path / "out.csv", classes=None).read_text().splitlines()
    assert heading == "predicted,mean_0,mean_1,mean_2,entropy,samples"
    assert first.startswith(f"{WHOLE['predicted'][0]},")


def test_json_brings_every_value_back_exactly(tmp_path):
    rows = json.loads(write(tmp_path / "out.json").read_text())
    assert [row["row"] for row in rows] == list(range(7))
    assert [row["predicted"] for row in rows] == [CLASSES[i] for i in WHOLE["predicted"]]
    np.testing.assert_array_equal(np.float32([row["mean"] for row in rows]), WHOLE["mean"])
    np.testing.assert_array_equal([row["entropy"] for row in rows], WHOLE["entropy"])


def test_what_is_not_finite_is_null_in_json_and_nan_in_csv(tmp_path):
    fields = [{"standard_error": torch.tensor([[torch.nan, 1.0]])}]
    (row,) = json.loads(write(tmp_path / "out.json", batches=fields).read_text())
    assert row["standard_error"] == [None, 1.0]
    assert write(tmp_path / "out.csv", batches=fields).read_text().splitlines()[1] == "nan,1"


def test_a_field_of_one_value_has_a_plain_name_in_csv(tmp_path):
    fields = [{"mean": torch.tensor([[1.5], [2.5]])}]
    text = write(tmp_path / "out.csv", None, fields).read_text()
    assert text == "mean\n1.5\n2.5\n"


def test_deep_fields_do_not_fit_a_csv_but_the_others(tmp_path):
    fields = [
        {"predicted": torch.zeros(2, 4, 4, dtype=torch.int64), "mean": torch.rand(2, 3, 4, 4)}
    ]
    with pytest.raises(InputError, match="too deep for a CSV"):
        write(tmp_path / "out.csv", batches=fields)
    assert list(tmp_path.iterdir()) == []
    with np.load(write(tmp_path / "out.npz", batches=fields)) as found:
        assert found["mean"].shape == (2, 3, 4, 4)
    rows = json.loads(write(tmp_path / "out.json", batches=fields).read_text())
    assert np.shape(rows[0]["predicted"]) == (4, 4)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".json"])
def test_nothing_appears_unless_all_went_well(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    path.write_text("before")

    def batches():
        yield BATCHES[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(path, batches=batches(), force=True)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(InputError, match="exists: choose another file, or replace it with --force"):
        write(path)
    assert path.read_text() == "before"
    write(path, force=True)
    assert path.read_text() != "before"


def test_unknown_formats_and_missing_folders(tmp_path):
    with pytest.raises(InputError, match=r"expected one of .npz, .csv, .json; got '.txt'"):
        write(tmp_path / "out.txt")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "out.csv")


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        mode = write(tmp_path / "out.csv").stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o640
