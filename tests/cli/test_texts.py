import json

import numpy as np
import pytest

from mcdrop.cli.texts import read_csv, read_json
from mcdrop.errors import InputError
from mcdrop.program.manifest import TensorSpec

X = TensorSpec(name="x", dtype="float32", shape=(None, 3))
IDS = TensorSpec(name="ids", dtype="int64", shape=(None, 3))
FREE = TensorSpec(name="tokens", dtype="int64", shape=(None, None), ranges={1: (1, 9)})


def csv(tmp_path, text, spec=X):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return read_csv(path, [spec])


def from_json(tmp_path, body, *specs):
    path = tmp_path / "rows.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return read_json(path, specs or [X])


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("1,2,3\n4,5,6\n", (1, 2)),
        ("a,b,c\n1,2,3\n4,5,6\n", (2, 3)),
        ("\ufeffa,b,c\r\n1,2,3\r\n\r\n4, 5 ,6", (2, 4)),
        ('"a","b\nb","c"\n1,2,3\n"4",5,6\n', (3, 4)),
    ],
)
def test_a_csv_has_a_row_a_line_and_maybe_a_heading(tmp_path, text, lines):
    array, found = csv(tmp_path, text)
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 6]])
    assert found == lines


def test_whole_numbers_stay_exact(tmp_path):
    array, _ = csv(tmp_path, f"{2**60 + 1},2,3\n", IDS)
    assert array[0, 0] == 2**60 + 1


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("1,2,3\n4,5\n", X, "line 2 has 2 values, expected 3"),
        ("a,b,c\n1,x,3\n", X, "line 2 value 2 is 'x', not a number"),
        ("1,x,3\n", X, "line 1 value 2 is 'x', not a number"),
        ("1,2,3\n\n1,,3\n", X, "line 3 value 2 is '', not a number"),
        ("1,2,3\n1,2,nan\n", X, "line 2 value 3 is nan"),
        ("1,2,3\n,,\n", X, "line 2 value 1 is '', not a number"),
        ("1,2,3\n-inf,2,3\n", X, "line 2 value 1 is -inf"),
        ("1,2,3\n1,2.5,3\n", IDS, "line 2 value 2 is '2.5', not a whole number"),
        (f"1,2,{10**30}\n", IDS, "too large for int64"),
        ("a,b,c\n", X, "holds no rows"),
        ("", X, "holds no rows"),
        ("1,2\n" * 9, X, "line 5 has 2 values, expected 3; and 4 more rows"),
        ("1,2\n", FREE, "rows of one width"),
    ],
)
def test_bad_lines_are_told_by_number(tmp_path, text, spec, message):
    with pytest.raises(InputError, match=message):
        csv(tmp_path, text, spec)


def test_a_csv_holds_one_input(tmp_path):
    with pytest.raises(InputError, match=r"the model takes x, ids: use \.npz"):
        read_csv(tmp_path / "rows.csv", [X, IDS])


@pytest.mark.parametrize(
    "body",
    [
        [[1, 2, 3], [4, 5, 6]],
        {"x": [[1, 2, 3], [4, 5, 6]]},
        {"inputs": [[1, 2, 3], [4, 5, 6]], "samples": 5},
        {"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}},
    ],
)
def test_json_may_be_rows_or_named_rows_or_a_request(tmp_path, body):
    arrays = from_json(tmp_path, body)
    np.testing.assert_array_equal(arrays["x"], [[1, 2, 3], [4, 5, 6]])


def test_json_holds_several_inputs_and_free_axes(tmp_path):
    arrays = from_json(tmp_path, {"x": [[1, 2, 3]], "tokens": [[1, 2, 3, 4, 5]]}, X, FREE)
    assert arrays["tokens"].shape == (1, 5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "expected a list of rows for each of x"),
        ("3", "expected a list of rows for each of x"),
        ([], "at least one"),
        ({"x": 3}, "expected a list of rows for 'x'"),
        ({"y": [[1, 2, 3]]}, "expected a list of rows for each of x"),
        ([[1, 2, 3], [1, 2]], r"row 1 has shape \[2\]"),
        ([[1, 2, 3], [1, [2], 3]], "row 1 is ragged"),
        ([[1, 2, 3], [1, "b", 3]], "row 1 holds something that is not a number"),
        ([[1, 2, 3], [1, None, 3]], "row 1 holds something that is not a number"),
        ([[1, 2, 3], 4], r"row 1 has shape \[\]"),
    ],
)
def test_bad_json_is_told_by_row(tmp_path, body, message):
    with pytest.raises(InputError, match=message):
        from_json(tmp_path, body)


def test_rows_of_a_free_axis_have_one_length(tmp_path):
    with pytest.raises(InputError, match=r"row 1 has shape \[3\], unlike the rows before it"):
        from_json(tmp_path, [[1, 2], [1, 2, 3]], FREE)
