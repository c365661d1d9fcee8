import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcdrop.program.manifest import TensorSpec
from service.errors import InvalidRequestError
from service.wire.tensors import check_shape, describe_shape, from_nested, from_row_major


def spec(dtype="float32", shape=(None, 2), **ranges):
    return TensorSpec(name="x", dtype=dtype, shape=shape, **ranges)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "uint8", "bool"])
@given(data=st.data())
def test_what_numpy_writes_comes_back_exactly(dtype, data):
    elements = {"allow_nan": False, "allow_infinity": False} if "float" in dtype else None
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)
    array = data.draw(hnp.arrays(dtype, shapes, elements=elements))
    body = orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
    described = spec(dtype, (None, *array.shape[1:]))
    tensors = [
        from_nested(body, described),
        from_row_major(body, array.shape, described),
        from_row_major(array.reshape(-1).tolist(), array.shape, described),
    ]
    for tensor in tensors:
        assert tensor.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        ([[1, True]], "float32", r"\[0\]\[1\] is true"),
        ([[1, None]], "float32", r"\[0\]\[1\] is null"),
        ([[1, 2], [3, "4"]], "float32", r'\[1\]\[1\] is "4"'),
        ([[1, {}]], "float32", r"\[0\]\[1\] is an object"),
        ([[1, 1e39]], "float32", r"\[0\]\[1\] is 1e\+39, outside the range of float32"),
        ([[1, 70000]], "float16", "outside the range of float16"),
        ([[1, 2.0]], "int64", r"\[0\]\[1\] is 2.0; .* whole numbers"),
        ([[1, False]], "int64", "is false"),
        ([[1, 128]], "int8", "128, outside the range of int8"),
        ([[1, -1]], "uint8", "-1, outside the range of uint8"),
        ([[1, 2**63]], "int64", "9223372036854775808, outside the range of int64"),
        ([[True, 1]], "bool", r"\[0\]\[1\] is 1; .* true or false"),
        ([[1, 2], [3]], "float32", r"ragged: \[1\] is a list of 1, but \[0\] is a list of 2"),
        ([[1, 2], 3], "float32", r"ragged: \[1\] is 3, but"),
        ([[1, 2], []], "float32", r"ragged"),
        ([[1, [2]]], "float32", r"ragged: \[0\]\[1\] is a list of 1, but \[0\]\[0\] is 1"),
        ([[1, 2, 3]], "float32", r"expected shape \[rows, 2\], got \[1, 3\]"),
        ([1, 2], "float32", r"put a single row into a list of its own"),
        ([], "float32", "send one row at least"),
        ([[[[[1]]]]], "float32", "nested more than 3 deep"),
        ("12", "float32", "expected nested lists"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(value, dtype, said):
    with pytest.raises(InvalidRequestError, match=said):
        from_nested(value, spec(dtype))


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        ([1, 2, 3], [2, 2], "needs 4 values"),
        ([[1, 2, 3, 4]], [2, 2], r"data has shape \[1, 4\]"),
        ([1, 2], [2], r"expected shape \[rows, 2\]"),
        ([], [0, 2], "one row"),
    ],
)
def test_declared_shape_is_held_against_model_and_data(data, shape, said):
    with pytest.raises(InvalidRequestError, match=said):
        from_row_major(data, shape, spec())


def test_free_axes_keep_to_their_ranges():
    tokens = spec("int64", (None, None), ranges={1: (2, 5)})
    assert describe_shape(tokens) == "[rows, 2..5]"
    check_shape([7, 5], tokens)
    for shape in ([7, 1], [7, 6], [0, 3]):
        with pytest.raises(InvalidRequestError, match=r"\[rows, 2\.\.5\]"):
            check_shape(shape, tokens)


def test_half_precision_is_rounded_once():
    value = 1 + 2**-11 + 2**-30  # rounds up from the double, down by way of float32
    assert from_nested([[value, 0]], spec("float16"))[0, 0] == 1 + 2**-10


def test_large_integers_become_floats():
    assert from_nested([[2**64 - 1, 1]], spec())[0, 0] == 2.0**64
