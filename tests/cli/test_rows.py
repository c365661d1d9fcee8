import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcdrop.cli.rows import read_rows
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec

X = TensorSpec(name="x", dtype="float32", shape=(None, 4))
IDS = TensorSpec(name="ids", dtype="int32", shape=(None, 2))
FLAGS = TensorSpec(name="flags", dtype="bool", shape=(None, 2))


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)


def write(path, array, name="x"):
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez(path, **{name: array})
        case ".safetensors":
            save_file({name: torch.from_numpy(array)}, path)
        case ".json":
            path.write_text(repr(array.tolist()))
        case ".csv":
            np.savetxt(path, array.reshape(len(array), -1), delimiter=",", fmt="%.9g")
    return path


def joined(rows, size=3, name="x"):
    batches = list(rows.batches(size))
    assert [start for start, _ in batches] == list(range(0, len(rows), size))
    return torch.cat([inputs[name] for _, inputs in batches])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json", ".safetensors"])
def test_every_format_gives_the_same_rows(tmp_path, values, suffix):
    rows = read_rows(write(tmp_path / f"rows{suffix}", values), [X])
    assert len(rows) == 7
    assert torch.equal(joined(rows), torch.from_numpy(values))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json", ".safetensors"])
def test_every_format_tells_rows_that_are_not_finite(tmp_path, values, suffix):
    values[2, 1] = np.nan
    path = tmp_path / f"rows{suffix}"
    if suffix == ".json":
        path.write_text(str(values.tolist()).replace("nan", "NaN"))
    else:
        write(path, values)
    with pytest.raises(InputError, match="line 3 value 2 is nan" if suffix == ".csv" else r"row 2"):
        read_rows(path, [X])


def test_many_bad_rows_are_counted(tmp_path, values):
    values[:] = np.inf
    with pytest.raises(InputError, match=r"row 4 \(counted from 0\) and 2 more"):
        read_rows(write(tmp_path / "rows.npy", values), [X])


def test_values_too_large_for_the_models_type_are_not_finite(tmp_path, values):
    wide = values.astype(np.float64)
    wide[5, 0] = 1e300
    with pytest.raises(InputError, match="row 5"):
        read_rows(write(tmp_path / "rows.npy", wide), [X])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.uint8, np.bool_, ">f4"])
def test_numbers_are_converted_to_floats(tmp_path, dtype):
    array = np.arange(8).reshape(2, 4).astype(dtype)
    rows = read_rows(write(tmp_path / "rows.npy", array), [X])
    assert torch.equal(joined(rows), torch.from_numpy(array.astype(np.float32)))


def test_fortran_order_and_images(tmp_path):
    spec = TensorSpec(name="image", dtype="float32", shape=(None, 1, 2, 3))
    array = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3))
    npy = read_rows(write(tmp_path / "rows.npy", array), [spec])
    table = read_rows(write(tmp_path / "rows.csv", np.ascontiguousarray(array)), [spec])
    for rows in (npy, table):
        assert torch.equal(joined(rows, name="image"), torch.from_numpy(array.copy()))


def test_integers_are_converted_only_if_nothing_is_lost(tmp_path):
    ids = np.array([[1, 2], [3, 4]])
    assert joined(read_rows(write(tmp_path / "a.npy", ids), [IDS]), name="ids").dtype == torch.int32
    for array in (np.array([[1, 2**40]]), np.array([[0.5, 1.0]])):
        with pytest.raises(InputError, match="values that int32 cannot hold"):
            read_rows(write(tmp_path / "b.npy", array), [IDS])
    flags = read_rows(write(tmp_path / "c.npy", np.array([[0, 1]])), [FLAGS])
    assert joined(flags, name="flags").tolist() == [[False, True]]
    with pytest.raises(InputError, match="values that bool cannot hold"):
        read_rows(write(tmp_path / "d.npy", np.array([[0, 2]])), [FLAGS])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_several_inputs_go_by_name(tmp_path, values, suffix):
    ids = np.zeros((7, 2), dtype=np.int32)
    path = tmp_path / f"rows{suffix}"
    if suffix == ".npz":
        np.savez(path, ids=ids, x=values)
    else:
        save_file({"ids": torch.from_numpy(ids), "x": torch.from_numpy(values)}, path)
    (_, inputs), *_ = read_rows(path, [X, IDS]).batches(7)
    assert torch.equal(inputs["x"], torch.from_numpy(values))
    assert torch.equal(inputs["ids"], torch.from_numpy(ids))
    with pytest.raises(InputError, match="an array for each of flags, x; got ids, x"):
        read_rows(path, [X, FLAGS])


def test_one_array_serves_one_input_under_any_name(tmp_path, values):
    rows = read_rows(write(tmp_path / "rows.npz", values, name="features"), [X])
    assert torch.equal(joined(rows), torch.from_numpy(values))
    with pytest.raises(InputError, match="for each of ids, x; got one array without a name"):
        read_rows(write(tmp_path / "rows.npy", values), [X, IDS])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5), np.float32), r"expected 'x' float32 \[B, 4\]; got shape \[3, 5\]"),
        (np.zeros(4, np.float32), r"got shape \[4\]"),
        (np.zeros((0, 4), np.float32), "holds no rows"),
        (np.array([["a"] * 4]), "not numbers"),
        (np.array([[1j] * 4]), "not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, array, message):
    with pytest.raises(InputError, match=message):
        read_rows(write(tmp_path / "rows.npy", array), [X])


def test_inputs_with_different_numbers_of_rows_are_refused(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.zeros((2, 4)), ids=np.zeros((3, 2), int))
    with pytest.raises(InputError, match="differ in their number of rows"):
        read_rows(tmp_path / "rows.npz", [X, IDS])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04rubbish", b"\xff\xfe\x00"]
)
def test_damaged_files_are_told_not_raised(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"rows{suffix}"):
        read_rows(path, [X])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json", ".safetensors"])
def test_missing_files_are_os_errors(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / f"rows{suffix}", [X])


def test_pickled_arrays_are_not_loaded(tmp_path):
    for name, save in (("rows.npy", np.save), ("rows.npz", np.savez)):
        save(tmp_path / name, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match="not a sound"):
            read_rows(tmp_path / name, [X])


def test_other_members_of_an_archive_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"'readme\.txt' is not an array"):
        read_rows(tmp_path / "rows.npz", [X])


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected one of .npy.*got '.parquet'"):
        read_rows(tmp_path / "rows.parquet", [X])


def test_an_npy_file_is_not_read_whole(tmp_path):
    array = np.lib.format.open_memmap(
        tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(1000, 4)
    )
    array[:] = 1.0
    array.flush()
    rows = read_rows(tmp_path / "rows.npy", [X])
    (_, first), *_ = rows.batches(10)
    array[0] = 5.0  # seen by who maps the file, not by who holds a copy
    array.flush()
    (_, again), *_ = rows.batches(10)
    assert (first["x"][0, 0], again["x"][0, 0]) == (1.0, 5.0)
