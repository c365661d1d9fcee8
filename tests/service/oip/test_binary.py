"""Binary tensors over REST, byte by byte."""

import json
import shutil
import subprocess

import ml_dtypes
import numpy as np
import orjson
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mcdrop
from mcdrop.program.manifest import TensorSpec
from service.errors import InvalidRequestError
from service.wire.arrays import from_array, from_bytes

HEADER = "Inference-Header-Content-Length"
ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]], "<f4")
RAW = ROWS.tobytes()


def tensor(name="x", shape=(2, 4), datatype="FP32", size=32, **more):
    parameters = {} if size is None else {"binary_data_size": size}
    given = {"name": name, "shape": list(shape), "datatype": datatype, "parameters": parameters}
    return given | more


def build(*inputs, raw=RAW, **request):
    front = orjson.dumps({"inputs": list(inputs) or [tensor()], **request})
    return front + raw, str(len(front))


def post(client, body, length, model="shapes", **headers):
    lengths = length if isinstance(length, list) else [length]
    headers = [(HEADER, one) for one in lengths if one is not None] + list(headers.items())
    return client.post(f"/v2/models/{model}/infer", content=body, headers=headers)


def infer(client, *inputs, raw=RAW, model="shapes", **request):
    return post(client, *build(*inputs, raw=raw, **request), model=model)


def outputs(response):
    """The outputs of an answer as arrays by name, JSON's and binary ones."""
    assert response.status_code == 200, response.text
    length = response.headers.get(HEADER)
    content = response.content
    answer = json.loads(content[: int(length)] if length else content)
    rest = content[int(length) :] if length else b""
    types = {"FP32": "<f4", "INT64": "<i8"}
    arrays = {}
    for output in answer["outputs"]:
        dtype = types[output["datatype"]]
        if "data" in output:
            values = np.array(output["data"], float).astype(dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            values, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        arrays[output["name"]] = values.reshape(output["shape"])
    assert rest == b""
    return arrays


@pytest.fixture(scope="module")
def expected(repository):
    predictor = mcdrop.load(repository / "shapes" / "2")
    fields = predictor.predict(torch.from_numpy(ROWS.copy())).fields()
    return {name: field.numpy() for name, field in fields.items()}


def check(got, expected):
    for name, values in got.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-6)


def test_offered(client):
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]


def test_binary_in_json_out(client, expected):
    response = infer(client)
    assert response.headers["content-type"] == "application/json"
    assert HEADER.lower() not in response.headers
    check(outputs(response), expected)


def test_json_in_binary_out(client, expected):
    body = {
        "inputs": [tensor(size=None, data=ROWS.tolist())],
        "parameters": {"binary_data_output": True},
    }
    response = client.post("/v2/models/shapes/infer", json=body)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content[int(response.headers[HEADER]) - 1 :][:1] == b"}"
    got = outputs(response)
    assert list(got) == list(expected)
    check(got, expected)


def test_each_output_says_for_itself(client, expected):
    asked = [
        {"name": "entropy", "parameters": {"binary_data": False}},
        {"name": "mean"},
        {"name": "samples", "parameters": {"binary_data": True}},
    ]
    for general, binary in ((True, ["mean", "samples"]), (False, ["samples"])):
        response = infer(client, outputs=asked, parameters={"binary_data_output": general})
        answer = json.loads(response.content[: int(response.headers[HEADER])])
        assert [out["name"] for out in answer["outputs"]] == ["entropy", "mean", "samples"]
        assert [out["name"] for out in answer["outputs"] if "data" not in out] == binary
        check(outputs(response), expected)


def test_undefined_numbers_are_nan(client):
    asked = [{"name": "standard_error", "parameters": {"binary_data": True}}]
    response = infer(client, outputs=asked, parameters={"mc_samples": 1})
    assert np.isnan(outputs(response)["standard_error"]).all()


def test_tensors_follow_in_the_order_of_the_inputs(client):
    ids = np.array([[1, 2, 3], [4, 5, 6]], "<i8")
    x, y = tensor(), tensor("ids", (2, 3), "INT64", 48)
    first = infer(client, x, y, raw=RAW + ids.tobytes(), model="pair")
    second = infer(client, y, x, raw=ids.tobytes() + RAW, model="pair")
    mixed = infer(client, {**y, "parameters": {}, "data": ids.tolist()}, x, model="pair")
    check(outputs(second), outputs(first))
    check(outputs(mixed), outputs(first))
    swapped = infer(client, x, y, raw=ids.tobytes() + RAW, model="pair")
    assert swapped.status_code == 400 or not np.allclose(
        outputs(swapped)["mean"], outputs(first)["mean"]
    )


def test_the_header_decides_and_not_the_content_type(client, expected):
    for kind in ("application/json", "application/octet-stream", "text/plain"):
        response = post(client, *build(), **{"content-type": kind})
        check(outputs(response), expected)
    plain = orjson.dumps({"inputs": [tensor(size=None, data=ROWS.tolist())]})
    headers = {"content-type": "application/octet-stream"}
    check(outputs(client.post("/v2/models/shapes/infer", content=plain, headers=headers)), expected)


def test_a_header_that_covers_the_whole_body(client, expected):
    body, length = build(tensor(size=None, data=ROWS.tolist()), raw=b"")
    assert length == str(len(body))
    check(outputs(post(client, body, length)), expected)


def test_bfloat16(client, repository):
    rows = ROWS.astype(ml_dtypes.bfloat16)
    given = tensor(datatype="BF16", size=16)
    got = outputs(infer(client, given, raw=rows.tobytes(), model="brain"))
    wanted = mcdrop.load(repository / "brain" / "1").predict(
        torch.from_numpy(rows.astype(np.float32)).bfloat16()
    )
    check(got, {name: field.numpy() for name, field in wanted.fields().items()})


BODY, LENGTH = build()


@pytest.mark.parametrize(
    "length",
    ["", "x", "-1", "+5", "1.0", "1e2", "0x10", "²", "9" * 30, str(len(BODY) + 1),
     [LENGTH, LENGTH], f"{LENGTH}, {LENGTH}"],
)  # fmt: skip
def test_headers_that_say_no_length(client, length):
    if not isinstance(length, list):
        length = length.encode()
    response = post(client, BODY, length)
    assert response.status_code == 400
    assert "Inference-Header-Content-Length" in response.json()["error"]


@pytest.mark.parametrize("change", [-len(LENGTH) - 50, -1, 1, 20])
def test_headers_that_say_a_wrong_length(client, change):
    response = post(client, BODY, str(int(LENGTH) + change))
    assert response.status_code == 400
    assert "error" in response.json()


def test_a_header_of_zero(client):
    assert post(client, RAW, "0").status_code == 400


BAD = [
    ([tensor(size=31)], RAW[:31], {}, "needs 32 bytes; got 31"),
    ([tensor(size=32)], RAW[:31], {}, "of which 31 are left; got 32"),
    ([tensor(size=0)], b"", {}, "needs 32 bytes; got 0"),
    ([tensor()], RAW + b"\0", {}, "1 bytes follow the JSON that belong to no input"),
    ([tensor(size=36)], RAW + b"\0" * 4, {}, "needs 32 bytes; got 36"),
    ([tensor(size=-1)], RAW, {}, "got -1"),
    ([tensor(size=32.0)], RAW, {}, "got 32.0"),
    ([tensor(size="32")], RAW, {}, "got '32'"),
    ([tensor(size=True)], RAW, {}, "got True"),
    ([tensor(parameters={"binary_data_size": None})], RAW, {}, "got None"),
    ([tensor(size=2**64 - 1)], RAW, {}, "got 18446744073709551615"),
    ([tensor(size=None)], RAW, {}, "has no data"),
    ([tensor(size=None)], b"", {}, "has no data"),
    ([tensor(data=ROWS.tolist())], RAW, {}, "both data and binary_data_size"),
    ([tensor(data=[])], RAW, {}, "both data and binary_data_size"),
    ([tensor(size=None, data=ROWS.tolist())], RAW, {}, "32 bytes follow"),
    ([tensor(shape=(4, 2))], RAW, {}, "expected shape [rows, 4]"),
    ([tensor(shape=(2**31 - 1, 4))], RAW, {}, "bytes; got 32"),
    ([tensor(shape=(2**62, 4))], RAW, {}, "inputs/0/shape/0"),
    ([tensor(shape=(2**31 - 1,) * 16)], RAW, {}, "expected shape"),
    ([tensor(shape=(0, 4), size=0)], b"", {}, "one row at least"),
    ([tensor(datatype="FP64", shape=(1, 4))], RAW, {}, "has the datatype FP32"),
    ([tensor(datatype="BYTES")], RAW, {}, "has the datatype FP32"),
    ([tensor(), tensor()], RAW, {}, "of which 0 are left"),
    ([tensor(), tensor()], RAW * 2, {}, "got 'x', 'x'"),
    ([tensor()], np.full(8, np.nan, "<f4").tobytes(), {}, "[0][0] is not a finite number"),
    ([tensor()], np.full(8, -np.inf, "<f4").tobytes(), {}, "is not a finite number"),
    ([tensor(shape=(9, 4), size=144)], bytes(144), {}, "8 rows, this one has 9"),
    ([tensor()], RAW, {"parameters": {"binary_data_output": "yes"}}, "is true or false"),
    (
        [tensor()],
        RAW,
        {"outputs": [{"name": "mean", "parameters": {"binary_data": 1}}]},
        "output 'mean': binary_data is true or false; got 1",
    ),
]


@pytest.mark.parametrize(("inputs", "raw", "request_", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_bodies_are_400_with_an_error(client, inputs, raw, request_, said):
    response = infer(client, *inputs, raw=raw, **request_)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert said in response.json()["error"]


def test_a_size_without_the_header(client):
    response = client.post("/v2/models/shapes/infer", json={"inputs": [tensor()]})
    assert response.status_code == 400
    assert "has no Inference-Header-Content-Length" in response.json()["error"]


def spec(dtype, shape=(None, 3)):
    return TensorSpec(name="x", dtype=dtype, shape=shape)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"],
)
def test_every_datatype_comes_back(dtype):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    for shift in (0, 1):  # bytes that are not aligned
        raw = memoryview(b"?" * shift + array.astype(array.dtype.newbyteorder("<")).tobytes())
        made = from_bytes(raw[shift:], [2, 3], spec(dtype))
        assert made.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(made.numpy(), array)
        made.zero_()  # memory of its own


def test_bool_is_a_byte_of_0_or_1():
    with pytest.raises(InvalidRequestError, match=r"\[0\]\[2\] is 2, outside the range of bool"):
        from_bytes(b"\0\1\2", [1, 3], spec("bool"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_no_float_that_is_not_finite_gets_in(dtype, value):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    raw = np.array([1, value, 2]).astype(kind).tobytes()
    with pytest.raises(InvalidRequestError, match=r"\[0\]\[1\] is not a finite number"):
        from_bytes(raw, [1, 3], spec(dtype))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([[1, 2, 3]], ">f8"), "float32"),
        (np.array([[1, 2, 3]], "<i8"), "float32"),
        (np.array([[1, 2, 3]], "u1"), "int64"),
        (np.array([[1, 2, 3]], "<u8"), "int8"),
        (np.array([[1, 2, 3]], ">i2"), "bfloat16"),
        (np.asfortranarray(np.array([[1, 2, 3], [4, 5, 6]])), "float16"),
        (np.array([[1, 0, 9, 2, 0, 9, 3, 0, 9]])[:, ::3], "uint8"),
    ],
)
def test_arrays_are_converted_where_nothing_is_lost(array, dtype):
    made = from_array(array, spec(dtype))
    assert made.dtype == getattr(torch, dtype)
    assert made.is_contiguous()
    assert made.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("array", "dtype", "said"),
    [
        (np.array([[1.0, 2, 3]]), "int64", "send whole numbers"),
        (np.array([[True, False, True]]), "float32", "is of bool; the model takes float32"),
        (np.array([[1, 0, 1]]), "bool", "send true or false"),
        (np.array([[1, 128, 0]]), "int8", r"\[0\]\[1\] is 128, outside the range of int8"),
        (np.array([[1, -1, 0]]), "uint8", r"is -1, outside"),
        (np.array([[0, 2**63, 0]], np.uint64), "int64", "is 9223372036854775808, outside"),
        (np.array([[0, 1e39, 0]]), "float32", r"\[0\]\[1\] is not a finite number of float32"),
        (np.array([[0, 70000, 0]]), "float16", "of float16"),
        (np.array([[1j, 0, 0]]), "float32", "complex"),
        (np.array([["1", "2", "3"]]), "float32", "send numbers"),
        (np.array([1.0, 2, 3]), "float32", "list of its own"),
    ],
)
def test_arrays_that_do_not_fit(array, dtype, said):
    with pytest.raises(InvalidRequestError, match=said):
        from_array(array, spec(dtype))


def mutate(draw, body):
    """Change, take out, put in, or cut a few bytes."""
    body = bytearray(body)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        kind = draw(st.sampled_from(["change", "drop", "insert", "cut"]))
        some = draw(st.binary(min_size=1, max_size=4))
        if kind == "cut":
            del body[place:]
        elif kind == "drop":
            del body[place : place + len(some)]
        elif kind == "change":
            body[place : place + len(some)] = some
        else:
            body[place:place] = some
    return bytes(body)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mutations_are_answered_rightly_or_refused(client, predictor, data):
    body, length = build(outputs=[{"name": "mean", "parameters": {"binary_data": True}}])
    front = int(length)
    which = data.draw(st.sampled_from(["tensor", "json", "all", "length"]))
    if which == "tensor":
        body = body[:front] + mutate(data.draw, body[front:])
    elif which == "json":
        changed = mutate(data.draw, body[:front])
        body, length = changed + body[front:], str(len(changed))
    elif which == "all":
        body = mutate(data.draw, body)
    else:
        length = str(data.draw(st.integers(-5, len(body) + 5)))
    response = post(client, body, length)
    assert response.status_code in {200, 400}, response.text
    if response.status_code == 400:
        assert list(response.json()) == ["error"]
        return
    if which == "tensor":
        rows = np.frombuffer(body[front:], "<f4").reshape(2, 4)
        mean = predictor.predict(torch.from_numpy(rows.copy())).mean.numpy()
        np.testing.assert_allclose(outputs(response)["mean"], mean, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def predictor(repository):
    return mcdrop.load(repository / "shapes" / "2")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(live, tmp_path, expected):
    body, length = build(outputs=[{"name": "mean", "parameters": {"binary_data": True}}])
    (tmp_path / "body").write_bytes(body)
    url = f"http://127.0.0.1:{live.port}/v2/models/shapes/infer"
    command = ["curl", "--silent", "--show-error", "--fail", "--data-binary", f"@{tmp_path}/body"]
    command += ["--header", f"{HEADER}: {length}", "--dump-header", str(tmp_path / "headers"), url]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    headers = (tmp_path / "headers").read_text().lower()
    front = int(headers.split(f"{HEADER.lower()}: ")[1].split()[0])
    assert json.loads(answer[:front])["outputs"][0]["shape"] == [2, 3]
    mean = np.frombuffer(answer[front:], "<f4").reshape(2, 3)
    np.testing.assert_allclose(mean, expected["mean"], rtol=1e-4, atol=1e-6)
