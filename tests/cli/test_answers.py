import csv
import json
import os
import signal
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdrop.cli.answers import answers, check_output
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


def test_unknown_formats(tmp_path):
    with pytest.raises(InputError, match=r"expected one of .npz, .csv, .json; got '.txt'"):
        write(tmp_path / "out.txt")


def test_a_place_that_takes_no_file_is_named_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    for path, said in (
        (tmp_path / "nowhere" / "out.csv", "nowhere: No such file or directory"),
        (tmp_path / "file" / "out.csv", "file: Not a directory"),
        (Path("/proc/out.csv"), "no file can be made in /proc: "),  # of root, too
        (tmp_path / "folder.csv", "is a folder: name a file in it"),
        (tmp_path, "is a folder: name a file in it"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            check_output(path, force=True)
        assert str(caught.value).startswith(str(path))
        assert ".part" not in str(caught.value)
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder.csv"}


def test_sigterm_leaves_through_the_clean_up_and_is_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def batches():
        yield BATCHES[0]
        assert len(list(tmp_path.iterdir())) == 1
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        write(tmp_path / "out.csv", batches=batches())
    assert caught.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_on_another_thread_signals_are_left_alone(tmp_path):
    thread = threading.Thread(target=write, args=(tmp_path / "out.csv",))
    thread.start()
    thread.join(30)
    assert (tmp_path / "out.csv").exists()


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        mode = write(tmp_path / "out.csv").stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o640
