from pathlib import Path

import pytest

from mcdrop.cli.answers import check_output
from mcdrop.cli.labelled import read_labelled
from mcdrop.cli.rows import read_rows
from mcdrop.cli.suffix import checked_suffix
from mcdrop.errors import InputError
from mcdrop.program.manifest import UNKNOWN, Manifest, TensorSpec
from mcdrop.tasks import Regression

X = TensorSpec(name="x", dtype="float32", shape=(None, 2))
Y = TensorSpec(name="y", dtype="float32", shape=(None, 1))
MODEL = Manifest(name="m", task=Regression(), inputs=(X,), outputs=(Y,), files=UNKNOWN)


def test_upper_case_is_no_other_format():
    assert checked_suffix(Path("a/Rows.CSV"), (".csv", ".npz")) == ".csv"


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.ZIP", "rows.csv.zst"])
def test_compressed_files_are_refused_with_what_to_do(tmp_path, name):
    path = tmp_path / name
    said = r"compressed files are not read: unpack it first, to rows\.csv$"
    with pytest.raises(InputError, match=said):
        read_labelled(path, MODEL, targets=["y"])
    with pytest.raises(InputError, match=said):
        read_rows(path, [X])
    with pytest.raises(InputError, match=r"not written: compress the answers later$"):
        check_output(path, force=False)


@pytest.mark.parametrize(("name", "got"), [("rows.txt", "'.txt'"), ("rows", "'no suffix'")])
def test_other_formats_are_told_with_those_there_are(name, got):
    with pytest.raises(InputError, match=rf"rows.*: expected one of \.csv, \.npz; got {got}$"):
        checked_suffix(Path(name), (".csv", ".npz"))
