"""Rows with targets, of every format: what is read, and what is told."""

import csv
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from mcdrop.cli.labelled import read_labelled
from mcdrop.errors import InputError
from mcdrop.program.manifest import UNKNOWN, Manifest, TensorSpec
from mcdrop.tasks import resolve

SUFFIXES = [".npz", ".csv", ".parquet", ".safetensors"]
NAMES = ("age", "bmi", "dose", "height")
NO_CLASS = "not a class: expected 0 to 2, or a name such as 'cat'"
PETS = ("cat", "dog", "owl, barn")


def spec(name, *shape, dtype="float32"):
    return TensorSpec(name=name, dtype=dtype, shape=(None, *shape))


INPUTS = (spec("x", 4),)


def model(task="regression", *, inputs=INPUTS, output=(1,), dtype="float32", classes=None):
    return Manifest(
        name="m",
        task=resolve(task),
        classes=classes,
        inputs=inputs,
        outputs=(spec("out", *output, dtype=dtype),),
        files=UNKNOWN,
    )


def pets(classes=PETS):
    return model("classification", output=(3,), classes=classes)


def write(path, x, columns=None, names=NAMES):
    """`x` `[B, W]` and further columns, whatever the format."""
    columns = columns or {}
    match path.suffix:
        case ".npz":
            np.savez(path, x=x, **columns)
        case ".safetensors":
            arrays = {"x": x, **columns}
            save_file({n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}, path)
        case ".parquet":
            features = dict(zip(names, x.T, strict=True))
            parquet.write_table(pa.table({**features, **columns}), path, row_group_size=8)
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*names, *columns])
                writer.writerows(
                    [*map(repr, map(float, row)), *more]
                    for row, *more in zip(x, *columns.values(), strict=True)
                )
    return path


def text(tmp_path, content, name="rows.csv"):
    (tmp_path / name).write_text(content)
    return tmp_path / name


def everything(rows, size=3):
    """Inputs, target and groups of all batches, after a look at how they are numbered."""
    batches = list(rows.batches(size))
    counts = [len(next(iter(batch.inputs.values()))) for batch in batches]
    assert [batch.first for batch in batches] == [size * i for i in range(len(batches))]
    assert all(count == size for count in counts[:-1])
    assert rows.share == 1.0
    inputs = {n: torch.cat([batch.inputs[n] for batch in batches]) for n in batches[0].inputs}
    target = None
    if batches[0].target is not None:
        target = torch.cat([batch.target for batch in batches])
    groups = None
    if batches[0].groups is not None:
        groups = [group for batch in batches for group in batch.groups]
    return inputs, target, groups


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [1, 3, 20, 500])
def test_every_format_gives_the_same_batches(tmp_path, x, suffix, size):
    columns = {"y": np.arange(20) / 7, "site": np.arange(20) % 3}
    rows = read_labelled(
        write(tmp_path / f"rows{suffix}", x, columns), model(), targets=["y"], group="site"
    )
    assert rows.total == (None if suffix == ".csv" else 20)
    inputs, target, groups = everything(rows, size)
    torch.testing.assert_close(inputs["x"], torch.from_numpy(x), rtol=0, atol=0)
    assert torch.equal(target, torch.from_numpy(columns["y"]).float())
    assert groups == [str(i % 3) for i in range(20)]
    assert (rows.bad.count, rows.bad.places) == (0, [])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("block", [1, 12, 40])
def test_batches_do_not_depend_on_how_the_file_is_read(tmp_path, x, suffix, block, monkeypatch):
    for name in ("text", "parquet", "arrays"):
        monkeypatch.setattr(f"mcdrop.cli.labelled_{name}.BLOCK", block)
    x[[0, 7, 8, 19]] = np.nan
    path = write(tmp_path / f"rows{suffix}", x, {"y": np.arange(20.0)})
    rows = read_labelled(path, model(), targets=["y"])
    inputs, target, _ = everything(rows, 6)
    good = [i for i in range(20) if i not in {0, 7, 8, 19}]
    assert torch.equal(inputs["x"], torch.from_numpy(x[good]))
    assert target.tolist() == good
    assert rows.bad.count == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_batches_start_anew_and_count_anew(tmp_path, x, suffix):
    x[4, 2] = np.inf
    rows = read_labelled(write(tmp_path / f"rows{suffix}", x), model(), targets=None)
    bad = rows.bad
    first = everything(rows)
    told = (bad.count, list(bad.places))
    next(rows.batches(2))
    second = everything(rows)
    assert torch.equal(first[0]["x"], second[0]["x"])
    assert (rows.bad.count, rows.bad.places) == told
    assert bad.count == 1


def test_the_share_grows_with_what_was_given(tmp_path, x):
    for suffix in SUFFIXES:
        rows = read_labelled(write(tmp_path / f"rows{suffix}", x), model(), targets=None)
        assert rows.share == 0.0
        shares = [rows.share for _ in rows.batches(5)]
        assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_targets(tmp_path, x, suffix):
    path = write(tmp_path / f"rows{suffix}", x, {"y": np.arange(20)})
    rows = read_labelled(path, model(), targets=None, ignore=["y", "elsewhere"])
    inputs, target, groups = everything(rows)
    assert torch.equal(inputs["x"], torch.from_numpy(x))
    assert (target, groups) == (None, None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_targets_make_columns(tmp_path, x, suffix):
    columns = {"a": np.arange(20.0), "b": -np.arange(20.0)}
    path = write(tmp_path / f"rows{suffix}", x, columns)
    _, target, _ = everything(read_labelled(path, model(output=(2,)), targets=["b", "a"]))
    assert target.tolist() == [[-i, i] for i in range(20)]
    with pytest.raises(InputError, match=r"expected targets \[B, 2\] for this model; got \[B\]"):
        read_labelled(path, model(output=(2,)), targets=["a"], ignore=["b"])


def test_a_gaussian_model_has_half_of_its_outputs_as_targets(tmp_path, x):
    path = write(tmp_path / "rows.csv", x, {"y": np.arange(20)})
    assert everything(read_labelled(path, model("gaussian", output=(2,)), targets=["y"]))
    double = model("gaussian", output=(2,), dtype="float64")
    _, target, _ = everything(read_labelled(path, double, targets=["y"]))
    assert target.dtype == torch.float64


# Bad rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_numbers_are_told_by_place(tmp_path, x, suffix):
    wide = x.astype(np.float64)
    wide[2, 1], wide[5, 3], wide[6, 0] = np.nan, -np.inf, 1e300
    y = np.arange(20.0)
    y[[6, 9]] = np.nan  # the input's fault is told first
    rows = read_labelled(write(tmp_path / f"rows{suffix}", wide, {"y": y}), model(), targets=["y"])
    _, target, _ = everything(rows)
    assert target.tolist() == [i for i in range(20) if i not in {2, 5, 6, 9}]
    line = (lambda i: f"line {i + 2}") if suffix == ".csv" else "row {} (counted from 0)".format
    places = ["'x' at [1]", "'x' at [3]", "'x' at [0]"]
    if suffix in {".csv", ".parquet"}:
        places = ["value 2 (bmi)", "value 4 (height)", "value 1 (age)"]
    assert rows.bad.count == 4
    assert rows.bad.places == [
        f"{line(2)}: {places[0]} is nan, not finite",
        f"{line(5)}: {places[1]} is -inf, not finite",
        f"{line(6)}: {places[2]} is 1e+300, too large for float32",
        f"{line(9)}: target 'y' is nan, not finite",
    ]


def test_bad_lines_of_a_csv_are_told_by_number(tmp_path):
    path = text(
        tmp_path,
        "\ufeffage, bmi,dose,height,y,site\r\n"
        "1,2,3,4,5,a\r\n"
        "\r\n"
        "1,2,3,4,5\r\n"
        '1,n/a,3,4,5,"b\nb"\r\n'
        "1,2,,4,5,a\r\n"
        "1,2,3,4,high,a\r\n"
        "1,2,3,4,,a\r\n"
        "1,2,3,4,5, \r\n"
        "1,2,3,4,5,a,b\r\n"
        ' 1 ,2,3,4,5," c"',
    )
    rows = read_labelled(path, model(), targets=["y"], group="site")
    inputs, _, groups = everything(rows)
    assert (len(inputs["x"]), groups) == (2, ["a", "c"])
    assert rows.bad.places == [
        "line 4: has 5 values, expected 6",
        "line 6: value 2 (bmi) is 'n/a', not a number",
        "line 7: value 3 (dose) is '', not a number",
        "line 8: target 'y' is 'high', not a number",
        "line 9: target 'y' is '', not a number",
        "line 10: group 'site' is missing",
        "line 11: has 7 values, expected 6",
    ]


def test_the_first_twenty_bad_rows_are_named_and_all_are_counted(tmp_path):
    path = text(tmp_path, "age,bmi,dose,height\n" + "1,2,3\n" * 25)
    rows = read_labelled(path, model(), targets=None)
    assert list(rows.batches(4)) == []
    assert rows.bad.count == 25
    assert rows.bad.places[19] == "line 21: has 3 values, expected 4"
    assert len(rows.bad.places) == 20


def test_missing_values_of_parquet_are_told(tmp_path, x):
    table = pa.table(
        {
            **{name: pa.array(x[:5, i]) for i, name in enumerate(NAMES[:3])},
            "height": pa.array([1, None, 2**60 + 1, 3, 4]),
            "y": pa.array(["cat", "dog", None, "cow", "owl, barn"]),
            "site": pa.array([1.0, 2.0, 3.0, 4.0, None]),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_labelled(tmp_path / "rows.parquet", pets(), targets=["y"], group="site")
    _, target, groups = everything(rows)
    assert (target.tolist(), groups) == ([0], ["1"])
    assert rows.bad.places == [
        "row 1 (counted from 0): value 4 (height) is missing",
        "row 2 (counted from 0): target 'y' is missing",
        f"row 3 (counted from 0): target 'y' is 'cow', {NO_CLASS}",
        "row 4 (counted from 0): group 'site' is missing",
    ]


# Integers


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_integer_inputs_stay_exact_and_fit(tmp_path, suffix):
    ids = np.array([[2**60 + 1, 2], [3, 4], [-1, 2**40]])
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        text(tmp_path, "a,b\n" + "\n".join(",".join(map(str, row)) for row in ids.tolist()))
    else:
        write(path, ids, names=("a", "b"))
    wide = model(inputs=(spec("x", 2, dtype="int64"),))
    inputs, *_ = everything(read_labelled(path, wide, targets=None))
    assert inputs["x"].tolist() == ids.tolist()
    narrow = model(inputs=(spec("x", 2, dtype="int32"),))
    rows = read_labelled(path, narrow, targets=None)
    inputs, *_ = everything(rows)
    assert (inputs["x"].dtype, inputs["x"].tolist()) == (torch.int32, [[3, 4]])
    assert "is 1152921504606846977, not a whole number from -2147483648" in rows.bad.places[0]
    assert rows.bad.count == 2


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    path = text(tmp_path, f"a,b\n1.0,2\n1.5,2\n3,x\n{10**30},1\n1e300,1\ninf,1\n4,5\n")
    flags = model(inputs=(spec("x", 2, dtype="uint8"),))
    rows = read_labelled(path, flags, targets=None)
    inputs, *_ = everything(rows)
    assert inputs["x"].tolist() == [[1, 2], [4, 5]]
    assert [place.split(":")[0] for place in rows.bad.places] == [f"line {i}" for i in range(3, 8)]
    assert rows.bad.places[0].endswith("value 1 (a) is '1.5', not a whole number that int64 holds")
    np.savez(tmp_path / "rows.npz", x=np.array([[1.0, 0.0], [0.5, 1.0], [2.0, 1.0]]))
    bits = model(inputs=(spec("x", 2, dtype="bool"),))
    rows = read_labelled(tmp_path / "rows.npz", bits, targets=None)
    inputs, *_ = everything(rows)
    assert inputs["x"].tolist() == [[True, False]]
    assert rows.bad.places[1].endswith("'x' at [0] is 2.0, not a whole number from 0 to 1")


# Labels


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_classes_are_whole_numbers_in_range(tmp_path, x, suffix):
    labels = np.array([0, 1, 2, 3, -1, 0.5, np.nan, np.inf, 1.0, 2.0])
    path = write(tmp_path / f"rows{suffix}", x[:10], {"y": labels})
    rows = read_labelled(path, pets(), targets=["y"])
    _, target, _ = everything(rows)
    assert (target.dtype, target.tolist()) == (torch.int64, [0, 1, 2, 1, 2])
    assert [place.split(" is ")[1].split(",")[0].strip("'") for place in rows.bad.places] == [
        "3.0", "-1.0", "0.5", "nan", "inf",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_classes_may_be_named(tmp_path, x, suffix):
    labels = ["owl, barn", "cat", "2", " dog ", "Cat", "3", "1.0", ""]
    path = write(tmp_path / f"rows{suffix}", x[:8], {"y": np.array(labels)})
    rows = read_labelled(path, pets(), targets=["y"], group="y")
    _, target, groups = everything(rows)
    assert target.tolist() == [2, 0, 2, 1, 1]
    assert groups == ["owl, barn", "cat", "2", "dog", "1.0"]
    assert rows.bad.count == 3
    assert rows.bad.places[0].endswith(f"target 'y' is 'Cat', {NO_CLASS}")


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (("0", "1", "2"), ["0", "2", "1"], [0, 2, 1]),
        (("7", "3", "5"), ["7", "5", "1"], [0, 2, 1]),
        (("7", "a", "a"), ["7", "1", "2"], [0, 1, 2]),
    ],
)
def test_names_that_are_numbers(tmp_path, x, classes, labels, expected):
    path = write(tmp_path / "rows.csv", x[:3], {"y": labels})
    _, target, _ = everything(read_labelled(path, pets(classes), targets=["y"]))
    assert target.tolist() == expected
    path = write(tmp_path / "rows.npz", x[:3], {"y": np.array(labels).astype(int)})
    _, target, _ = everything(read_labelled(path, pets(classes), targets=["y"]))
    assert target.tolist() == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_number_never_means_two_classes(tmp_path, x, suffix):
    path = write(tmp_path / f"rows{suffix}", x[:4], {"y": np.array([0, 1, 2, 3])})
    rows = read_labelled(path, pets(("1", "2", "3")), targets=["y"])
    _, target, _ = everything(rows)
    assert target.tolist() == [0, 1, 2]
    assert "classes have numbers for names here, and a number is taken as" in rows.bad.places[0]


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_yes_and_no(tmp_path, x, task):
    labels = ["1", "0", "true", "False", "TRUE", "1.0", "yes", "2", "0"]
    path = write(tmp_path / "rows.csv", x[:9], {"y": labels})
    rows = read_labelled(path, model(task), targets=["y"])
    _, target, _ = everything(rows)
    assert (target.dtype, target.tolist()) == (torch.int64, [1, 0, 1, 0, 1, 1, 0])
    assert [place.split(" is ")[1] for place in rows.bad.places] == [
        "'yes', not 0 or 1",
        "'2', not 0 or 1",
    ]
    flags = np.array([True, False, True])
    for suffix in SUFFIXES:
        if suffix != ".csv":
            path = write(tmp_path / f"rows{suffix}", x[:3], {"y": flags})
            _, target, _ = everything(read_labelled(path, model(task), targets=["y"]))
            assert target.tolist() == [1, 0, 1]


def test_the_two_classes_of_a_binary_model_may_be_named(tmp_path, x):
    path = write(tmp_path / "rows.csv", x[:3], {"y": ["no", "yes", "1"]})
    rows = read_labelled(path, model("binary", classes=("no", "yes")), targets=["y"])
    assert everything(rows)[1].tolist() == [0, 1, 1]


def test_targets_keep_the_shape_of_their_array(tmp_path):
    image = spec("image", 1, 4, 4)
    pixels = model("classification", inputs=(image,), output=(3, 4, 4))
    labels = np.zeros((5, 4, 4), dtype=np.uint8)
    labels[3, 2, 1] = 3
    np.savez(tmp_path / "rows.npz", image=np.zeros((5, 1, 4, 4)), y=labels)
    rows = read_labelled(tmp_path / "rows.npz", pixels, targets=["y"])
    _, target, _ = everything(rows)
    assert target.shape == (4, 4, 4)
    assert "row 3 (counted from 0): target 'y' at [2, 1] is 3, not a class" in rows.bad.places[0]
    np.savez(tmp_path / "rows.npz", image=np.zeros((5, 1, 4, 4)), y=labels[:, 0])
    with pytest.raises(InputError, match=r"expected targets \[B, 4, 4\] .*; got \[B, 4\]"):
        read_labelled(tmp_path / "rows.npz", pixels, targets=["y"])


# Inputs of other shapes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_are_flattened_in_tables(tmp_path, suffix):
    images = np.arange(40, dtype=np.float32).reshape(5, 1, 2, 4)
    flat = images.reshape(5, -1)
    if suffix in {".csv", ".parquet"}:
        path = write(tmp_path / f"rows{suffix}", flat, {"y": range(5)}, names="abcdefgh")
    else:
        path = write(tmp_path / f"rows{suffix}", images, {"y": np.arange(5)})
    rows = read_labelled(path, model(inputs=(spec("image", 1, 2, 4),)), targets=["y"])
    assert torch.equal(everything(rows)[0]["image"], torch.from_numpy(images))


def test_targets_may_stand_between_the_columns(tmp_path):
    path = text(tmp_path, "y,age,site,bmi,dose,height\n0,1,a,2,3,4\n0,1,a,2,nan,4\n")
    rows = read_labelled(path, model(), targets=["y"], group="site")
    assert everything(rows)[0]["x"].tolist() == [[1, 2, 3, 4]]
    assert rows.bad.places == ["line 3: value 5 (dose) is nan, not finite"]


def test_names_may_be_numbers_beside_one_that_is_known(tmp_path):
    path = text(tmp_path, "0,1,2,3,y\n5,6,7,8,9\n")
    assert everything(read_labelled(path, model(), targets=["y"]))[0]["x"].tolist() == [
        [5, 6, 7, 8]
    ]


@pytest.mark.parametrize("fixed", [-1, 4])
def test_parquet_may_hold_lists(tmp_path, x, fixed):
    lists = pa.array(x.tolist()[:4], pa.list_(pa.float32(), fixed))
    table = pa.table({"features": lists, "y": pa.array([[i, -i] for i in range(4)])})
    parquet.write_table(table, tmp_path / "rows.parquet")
    image = model(inputs=(spec("image", 2, 2),), output=(2,))
    inputs, target, _ = everything(
        read_labelled(tmp_path / "rows.parquet", image, targets=["y"]), 3
    )
    assert torch.equal(inputs["image"], torch.from_numpy(x[:4]).reshape(4, 2, 2))
    assert target.tolist() == [[0, 0], [1, -1], [2, -2], [3, -3]]


def test_bad_lists_are_told(tmp_path):
    lists = pa.array([[1, 2, 3, 4], [1, 2], None, [1, None, 3, 4], [1, 2, 3, np.nan]])
    table = pa.table({"features": lists, "y": pa.array([0.0] * 5)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_labelled(tmp_path / "rows.parquet", model(), targets=["y"])
    assert everything(rows)[0]["x"].tolist() == [[1, 2, 3, 4]]
    assert [place.split(": ")[1] for place in rows.bad.places] == [
        "'features' is a list of 2 values, expected 4",
        "'features' is missing",
        "value 2 of 'features' is missing",
        "value 4 of 'features' is nan, not finite",
    ]


def test_text_and_numbers_of_parquet_in_all_their_types(tmp_path):
    from decimal import Decimal

    table = pa.table(
        {
            "age": pa.array([True, False]),
            "bmi": pa.array([Decimal("1.5"), Decimal("2.5")]),
            "dose": pa.array([1.0, 2.0], pa.float16()),
            "height": pa.array([3, 4]).dictionary_encode(),
            "y": pa.array(["cat", "dog"]).dictionary_encode(),
            "site": pa.array(["a", "b"], pa.large_string()),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    rows = read_labelled(tmp_path / "rows.parquet", pets(), targets=["y"], group="site")
    inputs, target, groups = everything(rows)
    assert inputs["x"].tolist() == [[1, 1.5, 1, 3], [0, 2.5, 2, 4]]
    assert (target.tolist(), groups) == ([0, 1], ["a", "b"])


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_several_inputs_go_by_name(tmp_path, x, suffix):
    path = tmp_path / f"rows{suffix}"
    columns = {"ids": np.arange(40).reshape(20, 2), "x": x, "y": np.zeros(20), "more": np.ones(20)}
    if suffix == ".parquet":
        lists = {n: pa.array(list(a) if a.ndim > 1 else a) for n, a in columns.items()}
        parquet.write_table(pa.table(lists), path)
    elif suffix == ".npz":
        np.savez_compressed(path, **columns)
    else:
        save_file({n: torch.from_numpy(a) for n, a in columns.items()}, path)
    two = model(inputs=(spec("x", 4), spec("ids", 2, dtype="int64")))
    inputs, *_ = everything(read_labelled(path, two, targets=["y"]))
    assert torch.equal(inputs["x"], torch.from_numpy(x))
    assert torch.equal(inputs["ids"], torch.from_numpy(columns["ids"]))
    other = model(inputs=(spec("x", 4), spec("mask", 2)))
    with pytest.raises(InputError, match="for each of mask, x; got ids, more, x"):
        read_labelled(path, other, targets=["y"])


def test_one_array_serves_one_input_under_any_name(tmp_path, x):
    path = write(tmp_path / "rows.npz", x, {"y": np.zeros(20)})
    features = model(inputs=(spec("features", 4),))
    inputs, *_ = everything(read_labelled(path, features, targets=["y"]))
    assert torch.equal(inputs["features"], torch.from_numpy(x))
    with pytest.raises(InputError, match="for each of features; got x, y"):
        read_labelled(path, features, targets=None)
    with pytest.raises(InputError, match="expected an array for the input; there are x, y"):
        read_labelled(path, features, targets=["y"], ignore=["x"])


# Arrays as they lie in an archive


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [">f4", "f2", "i8", "u2", "?"])
def test_archives_of_any_kind(tmp_path, save, dtype):
    array = np.arange(80).reshape(20, 4).astype(dtype)
    save(tmp_path / "rows.npz", x=array, y=np.arange(20))
    inputs, *_ = everything(read_labelled(tmp_path / "rows.npz", model(), targets=["y"]))
    assert torch.equal(inputs["x"], torch.from_numpy(array.astype(np.float32)))


def test_fortran_order_is_read_where_that_can_be_done(tmp_path, x):
    array = np.asfortranarray(x)
    np.savez(tmp_path / "rows.npz", y=np.arange(20), x=array)
    inputs, *_ = everything(read_labelled(tmp_path / "rows.npz", model(), targets=["y"]))
    assert torch.equal(inputs["x"], torch.from_numpy(x))
    np.savez_compressed(tmp_path / "rows.npz", y=np.arange(20), x=array)
    with pytest.raises(InputError, match=r"Fortran order.*save np\.ascontiguousarray of it"):
        read_labelled(tmp_path / "rows.npz", model(), targets=["y"])


def test_bfloat16_tensors(tmp_path):
    x = torch.arange(8).reshape(2, 4).to(torch.bfloat16)
    save_file({"x": x, "y": torch.zeros(2, 1)}, tmp_path / "rows.safetensors")
    rows = read_labelled(tmp_path / "rows.safetensors", model(), targets=["y"])
    inputs, target, _ = everything(rows)
    assert torch.equal(inputs["x"], x.float())
    assert target.shape == (2, 1)


def test_objects_are_not_unpickled(tmp_path, x):
    np.savez(tmp_path / "rows.npz", x=x, y=np.array(["a"] * 20, dtype=object))
    with pytest.raises(InputError, match=r"'y' holds pickled objects.*text \(dtype=str\)"):
        read_labelled(tmp_path / "rows.npz", model(), targets=["y"])
    assert everything(read_labelled(tmp_path / "rows.npz", model(), targets=None))


# Memory


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet", ".safetensors"])
def test_a_large_file_is_not_held(tmp_path, suffix):
    """40 MB on disk, and a peak of a fraction of that."""
    path = tmp_path / f"rows{suffix}"
    count = 10_000_000 if suffix != ".csv" else 2_500_000
    x = np.random.default_rng(0).standard_normal(count, dtype=np.float32).reshape(-1, 5)
    if suffix == ".csv":
        line = ",".join(["0.123456789012345"] * 5)
        path.write_text(",".join(f"c{i}" for i in range(5)) + "\n" + (line + "\n") * len(x))
    elif suffix == ".parquet":
        table = pa.table({f"c{i}": x[:, i] for i in range(5)})
        parquet.write_table(table, path, row_group_size=len(x))
        del table
    else:
        write(path, x)
    rows, size = len(x), path.stat().st_size
    del x
    assert size >= 38e6
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        data = read_labelled(path, model(inputs=(spec("x", 5),)), targets=None)
        seen = arrow = 0
        for batch in data.batches(1000):
            seen += len(batch.inputs["x"])
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == rows
    assert peak < 8e6
    assert arrow < 20e6  # a page and a dictionary of each column, whatever the row group's size


# Errors


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_columns_are_told_with_those_there_are(tmp_path, x, suffix):
    path = write(tmp_path / f"rows{suffix}", x, {"y": np.arange(20)})
    there = "age, bmi, dose, height, y" if suffix in {".csv", ".parquet"} else "(x, y|y, x)"
    with pytest.raises(InputError, match=f"expected an? .*'label', the target; there are {there}"):
        read_labelled(path, model(), targets=["label"])
    with pytest.raises(InputError, match="'site', the group; there are"):
        read_labelled(path, model(), targets=["y"], group="site")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_wrong_width_is_told_with_what_is_left(tmp_path, x, suffix):
    path = write(tmp_path / f"rows{suffix}", x, {"y": np.arange(20)})
    message = (
        r"expected 3 columns of numbers beside y, for 'x' float32 \[B, 3\]; got 4: age, bmi, dose, "
        "height"
        if suffix in {".csv", ".parquet"}
        else r"expected 'x' float32 \[B, 3\]; got shape \[20, 4\]"
    )
    with pytest.raises(InputError, match=message):
        read_labelled(path, model(inputs=(spec("x", 3),)), targets=["y"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_without_rows_are_refused(tmp_path, suffix):
    path = write(tmp_path / f"rows{suffix}", np.zeros((0, 4)), {"y": np.zeros(0)})
    with pytest.raises(InputError, match="holds no rows"):
        read_labelled(path, model(), targets=["y"])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04rubbish", b"\xff\xfe\x00", b"PAR1PAR1"]
)
def test_damaged_files_are_told_not_raised(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"rows{suffix}"):
        read_labelled(path, model(), targets=["y"])


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_damage_further_on_is_told_when_it_is_met(tmp_path, suffix):
    x = np.random.default_rng(0).standard_normal((50_000, 4)).astype(np.float32)
    path = write(tmp_path / f"rows{suffix}", x)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    if suffix == ".parquet":  # pages have no checksums by default: break one that is compressed
        content[40:4000] = b"\xff" * 3960
        path.write_bytes(content)
    rows = read_labelled(path, model(), targets=None)
    with pytest.raises(InputError, match=r"not a sound|not a CSV"):
        list(rows.batches(1000))


def test_an_array_that_ends_early_is_told(tmp_path, x):
    import io
    import zipfile

    stream = io.BytesIO()
    np.save(stream, x)
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue()[:-20])
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="'x' has 300 bytes of values, 320 by its header"):
        read_labelled(tmp_path / "rows.npz", model(), targets=None)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_files_are_os_errors(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        read_labelled(tmp_path / f"rows{suffix}", model(), targets=["y"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3,4,5\n1,2,3,4,5\n", "expected a first line with the names.*got numbers.*such as 1"),
        ("5.1,3.5,,0.2,cat\n", r"got numbers in it, such as 5\.1"),
        ("\n\n", "names of the columns; got none"),
        ("a,b,c,d,y,y\n1,2,3,4,5,6\n", "column 'y' is there more than once"),
        (",a,b,c,d,y\n0,1,2,3,4,5\n", r"got 5: '', a, b, c, d"),
        (",".join(f"c{i}" for i in range(30)) + ",y\n", "got 30: c0, .*, c19 and 10 more"),
    ],
)
def test_headings_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_labelled(text(tmp_path, content), model(), targets=["y"])


def test_a_heading_is_wanted_without_targets_too(tmp_path):
    with pytest.raises(InputError, match="put a line of names before the rows"):
        read_labelled(text(tmp_path, "1,2,3,4\n"), model(), targets=None)


def test_a_csv_holds_one_input_of_one_width(tmp_path):
    path = text(tmp_path, "a,b\n1,2\n")
    with pytest.raises(InputError, match="a CSV holds one input, the model takes x, z"):
        read_labelled(path, model(inputs=(spec("x", 1), spec("z", 1))), targets=None)
    with pytest.raises(InputError, match="rows of one width"):
        read_labelled(path, model(inputs=(spec("x", None),)), targets=None)


@pytest.mark.parametrize(
    ("columns", "task", "message"),
    [
        ({"x": ["a"], "y": [1]}, "regression", "column 'x' holds string, not numbers$"),
        ({"x": [1], "y": [[[1]]]}, "regression", "column 'y' holds list.*, not numbers"),
        ({"x": [1], "y": [b"a"]}, "regression", "column 'y' holds binary, not numbers or text"),
        ({"x": [[1, 2]], "y": [1]}, "fixed", "expected 'x' float32 .*1 values a row; got 2"),
        ({"x": [1], "y": [[1, 2]]}, "fixed", r"expected targets \[B, 1\] .*; got \[B, 2\]"),
    ],
)
def test_columns_of_parquet_that_do_not_fit(tmp_path, columns, task, message):
    arrays = {name: pa.array(values) for name, values in columns.items()}
    if task == "fixed":
        lists = pa.list_(pa.int64(), 2)
        arrays = {
            name: array.cast(lists) if pa.types.is_list(array.type) else array
            for name, array in arrays.items()
        }
    parquet.write_table(pa.table(arrays), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match=message):
        read_labelled(tmp_path / "rows.parquet", model(inputs=(spec("x", 1),)), targets=["y"])


def test_columns_of_parquet_that_share_a_name(tmp_path):
    arrays = [pa.array([1.0])] * 4
    table = pa.Table.from_arrays(arrays, names=["a", "b", "b", "c"])
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="columns share a name"):
        read_labelled(tmp_path / "rows.parquet", model(), targets=None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(3)}, "arrays differ in their number of rows"),
        ({"y": np.array(3.0)}, "'y' with a row for each input; got one value"),
        ({"y": np.zeros((20, 2))}, r"expected targets \[B, 1\] for this model; got \[B, 2\]"),
        ({"y": np.zeros(20, dtype=complex)}, "'y' holds complex128, not numbers or text"),
        ({"y": np.zeros(20, dtype=[("a", "f4")])}, "'y' holds .*, not numbers or text"),
        ({"y": np.zeros(20, dtype="M8[D]")}, r"'y' holds datetime64\[D\], not numbers or text"),
        ({"x": np.array([["a"] * 4] * 20), "y": np.zeros(20)}, "'x' holds <U1, not numbers$"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, x, arrays, message):
    np.savez(tmp_path / "rows.npz", **{"x": x, **arrays})
    with pytest.raises(InputError, match=message):
        read_labelled(tmp_path / "rows.npz", model(), targets=["y"])


def test_groups_and_several_targets_have_one_value_a_row(tmp_path, x):
    arrays = {"x": x, "a": np.zeros(20), "b": np.zeros((20, 1))}
    np.savez(tmp_path / "rows.npz", **arrays)
    for wanted in ({"targets": ["a", "b"]}, {"targets": ["a"], "group": "b"}):
        with pytest.raises(InputError, match=r"'b' with one value a row, shape \[B\]"):
            read_labelled(tmp_path / "rows.npz", model(output=(2,)), **wanted)


def test_unknown_formats_and_targets_named_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected one of .npz.*; got '.json'"):
        read_labelled(tmp_path / "rows.json", model(), targets=["y"])
    for targets in ([], ["y", "y"]):
        with pytest.raises(InputError, match="expected targets that differ"):
            read_labelled(tmp_path / "rows.csv", model(), targets=targets)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, x, monkeypatch):
    path = write(tmp_path / "rows.parquet", x)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'mcdrop\[parquet\]'"):
        read_labelled(path, model(), targets=None)
