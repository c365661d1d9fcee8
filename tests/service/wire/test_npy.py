"""Native prediction with .npy bodies, and the format itself."""

import io
import re
import struct
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mcdrop
from service.errors import MalformedBodyError
from service.wire.npy import NPY, read_npy, write_npy
from service.wire.preferences import choose_media_type

ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]], np.float32)
PREDICT = "/v1/models/shapes/predict"
METER = "/v1/models/meter/predict"


def save(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def post(client, array=ROWS, path=PREDICT, *, accept="*/*", **query):
    content = array if isinstance(array, bytes) else save(array)
    headers = {"content-type": NPY, "accept": accept}
    return client.post(path, content=content, headers=headers, params=query)


def load(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == NPY
    return np.load(io.BytesIO(response.content), allow_pickle=False)


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


def test_npy_in_json_out(client):
    answer = post(client, samples=40, seed=5, outputs=["mean", "entropy"]).json()
    body = {"inputs": ROWS.tolist(), "samples": 40, "seed": 5, "outputs": ["mean", "entropy"]}
    wanted = client.post(PREDICT, json=body).json()
    assert list(answer["outputs"]) == ["mean", "entropy"]
    for name, values in wanted["outputs"].items():
        close(answer["outputs"][name], values)
    assert answer["samples"] == wanted["samples"] == [40, 40]


def test_npy_in_npy_out(client, repository):
    response = post(client, path="/v1/models/shapes/versions/1/predict", accept=NPY, samples=40)
    wanted = mcdrop.load(repository / "shapes" / "1").predict(torch.from_numpy(ROWS), samples=40)
    mean = load(response)
    assert mean.dtype == np.float32
    close(mean, wanted.mean.numpy())
    headers = {
        name: response.headers[f"x-mcdrop-{name}"] for name in ("model", "version", "output")
    }
    assert headers == {"model": "shapes", "version": "1", "output": "mean"}
    assert response.headers["x-mcdrop-samples"] == "40"
    assert len(response.headers["x-mcdrop-id"]) == 32
    assert float(response.headers["x-mcdrop-compute-ms"]) > 0
    assert float(response.headers["x-mcdrop-queue-ms"]) >= 0


def test_json_in_npy_out(client):
    body = {"inputs": ROWS.tolist(), "outputs": ["mutual_information"]}
    response = client.post(PREDICT, json=body, headers={"accept": NPY})
    assert load(response).shape == (2,)
    assert response.headers["x-mcdrop-output"] == "mutual_information"


def test_the_query_s_parameters(client):
    rows = np.ones((2, 3))
    query = {"interval": 0.8, "abstain_above": 0.1, "tolerance": 50.0, "samples": 200}
    answer = post(client, rows, METER, **query).json()
    body = {"inputs": rows.tolist(), **query}
    wanted = client.post(METER, json=body).json()
    assert answer["outputs"].keys() == wanted["outputs"].keys() >= {"lower", "upper", "abstain"}
    close(answer["outputs"]["lower"], wanted["outputs"]["lower"])
    assert answer["samples"] == wanted["samples"]
    assert answer["abstention"] == wanted["abstention"]
    upper = post(client, rows, METER, accept=NPY, outputs="upper", **query)
    close(load(upper), wanted["outputs"]["upper"])
    abstain = load(post(client, rows, METER, accept=NPY, outputs="abstain", abstain_above=0.1))
    assert abstain.dtype == np.bool_


@pytest.mark.parametrize(
    "array",
    [
        ROWS.astype(">f4"),
        ROWS.astype(np.float64),
        ROWS.astype(">f8"),
        np.asfortranarray(ROWS),
        np.asfortranarray(ROWS.astype(">f8")),
    ],
)
def test_byte_orders_and_layouts(client, array):
    close(load(post(client, array, accept=NPY)), load(post(client, accept=NPY)))


def test_whole_numbers_for_a_model_of_floats(client):
    whole = np.array([[1, 2, 3, 4]])
    close(load(post(client, whole, accept=NPY)), load(post(client, whole.astype("f4"), accept=NPY)))


def test_undefined_numbers_are_nan(client):
    response = post(client, accept=NPY, samples=1, outputs="standard_error")
    assert np.isnan(load(response)).all()


@pytest.mark.parametrize(
    ("array", "query", "said"),
    [
        (ROWS[:, :3], {}, "expected shape [rows, 4], got [2, 3]"),
        (ROWS[0], {}, "list of its own"),
        (np.tile(ROWS, (5, 1)), {}, "8 rows, this one has 10"),
        (np.full((2, 4), np.nan), {}, "[0][0] is not a finite number"),
        (np.full((2, 4), 1e39), {}, "not a finite number of float32"),
        (ROWS > 0, {}, "is of bool"),
        (ROWS[:0], {}, "one row at least"),
        (ROWS, {"samples": 0}, "in the query: samples"),
        (ROWS, {"samples": "many"}, "in the query: samples"),
        (ROWS, {"samples": 501}, "500 samples"),
        (ROWS, {"samples": [1, 2]}, "samples is in the query 2 times"),
        (ROWS, {"seed": -1}, "in the query: seed"),
        (ROWS, {"tolerance": "nan"}, "in the query: tolerance"),
        (ROWS, {"interval": 0.9}, "interval is for regression"),
        (ROWS, {"sets": 0.9}, "no conformal sets"),
        (ROWS, {"outputs": "mode"}, "no output 'mode'"),
        (ROWS, {"sampels": 5}, "no parameter 'sampels'; there are: samples, seed"),
        (ROWS, {"inputs": "1"}, "no parameter 'inputs'"),
    ],
)
def test_what_does_not_fit_is_a_problem_that_says_so(client, array, query, said):
    for accept in (NPY, "application/json"):
        response = post(client, array, accept=accept, **query)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert said in response.json()["detail"]


def test_a_model_of_several_inputs(client):
    response = post(client, path="/v1/models/pair/predict")
    assert response.status_code == 422
    assert "'x', 'ids', and a .npy file holds one array" in response.json()["detail"]


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["mean", "entropy"], "exactly one in outputs, or accept JSON; got mean, entropy"),
        (["label"], "'label' is not of numbers"),
        (["set"], "'set' is not of numbers"),
        (["upper"], "need an interval|no output"),
    ],
)
def test_one_output_of_numbers(client, outputs, said):
    response = post(client, accept=NPY, outputs=outputs)
    assert response.status_code == 422
    assert re.search(said, response.json()["detail"])


def test_parameters_belong_into_the_json(client):
    body = {"inputs": ROWS.tolist()}
    response = client.post(PREDICT, json=body, params={"samples": 5})
    assert response.status_code == 422
    assert "put it into the JSON" in response.json()["detail"]
    assert client.post(PREDICT, json=body, params={"utm_source": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "application/json"),
        (NPY, NPY),
        ("Application/X-NPY", NPY),
        (f"{NPY}, */*", NPY),
        (f"application/json;q=0.5, {NPY}", NPY),
        (f"application/json, {NPY}", "application/json"),
        (f"application/json;q=0, */*, {NPY};q=0.1", NPY),
    ],
)
def test_accept_decides(client, accept, kind):
    body = {"inputs": ROWS.tolist()}
    response = client.post(PREDICT, json=body, headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"] == kind
    assert choose_media_type([accept], ("application/json", NPY)) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "*/*;q=0"])
def test_nothing_acceptable_is_406(client, accept):
    response = client.post(PREDICT, json={"inputs": ROWS.tolist()}, headers={"accept": accept})
    assert response.status_code == 406
    assert "application/json or application/x-npy" in response.json()["detail"]


# the format

RAW = ROWS.tobytes()
HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }"


def file(header=HEADER, data=RAW, version=1):
    width = {1: "<H", 2: "<I", 3: "<I"}.get(version, "<H")
    header = header.ljust(63) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(width, len(header)) + header + data


class Pickled:
    def __reduce__(self):
        return (print, ("gotcha",))


def pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([Pickled()], object), allow_pickle=True)
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    np.savez(buffer, x=ROWS)
    return buffer.getvalue()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_of_the_format(version):
    np.testing.assert_array_equal(read_npy(file(version=version)), ROWS)


NO_FILES = [
    (b"", "no .npy file"),
    (b"\x93NUMPY", "no .npy file"),
    (b"\x93NUMPY\x01\x00", "header"),
    (b"{}", "no .npy file"),
    (zipped(), "no .npy file"),
    (pickled(), "dtype is '|O'"),
    (file(version=4), "no .npy file"),
    (file(version=0), "no .npy file"),
    (file()[:-1], "needs 32 bytes of data; got 31"),
    (file() + b"\0", "needs 32 bytes of data; got 33"),
    (file()[:40], "header has 64 bytes"),
    (file(HEADER.ljust(5000)), "4096 at most"),
    (file(HEADER.replace(b"(2, 4)", b"(2, 10**12)")), "header cannot be read"),
    (file(HEADER.replace(b"(2, 4)", b"(2000000000000, 4)")), "bytes of data; got 32"),
    (file(HEADER.replace(b"(2, 4)", b"(2, -4)")), "shape is none"),
    (file(HEADER.replace(b"(2, 4)", b"(2, True)")), "shape is none"),
    (file(HEADER.replace(b"(2, 4)", b"(2, 4.0)")), "shape is none"),
    (file(HEADER.replace(b"(2, 4)", b"[2, 4]")), "header cannot be read"),
    (file(HEADER.replace(b"(2, 4)", b"(" + b"1, " * 17 + b")")), "up to 16 sizes"),
    (file(HEADER.replace(b"(2, 4)", b"(0x" + b"f" * 3900 + b",)")), "shape is none"),
    (file(HEADER.replace(b"False", b"0")), "header cannot be read"),
    (file(HEADER.replace(b"}", b"'more': 1}")), "header cannot be read"),
    (file(HEADER.replace(b"'<f4'", b"'<f16'")), "dtype is '<f16'"),
    (file(HEADER.replace(b"'<f4'", b"'<c8'")), "dtype is '<c8'"),
    (file(HEADER.replace(b"'<f4'", b"'<U2'")), "dtype is '<U2'"),
    (file(HEADER.replace(b"'<f4'", b"'<f4, <f4'")), "dtype is"),
    (file(HEADER.replace(b"'<f4'", b"[('a', '<f4')]")), "header cannot be read"),
    (file(b"["), "header cannot be read"),
    (file(b"-" * 4000 + b"1"), "header cannot be read"),
    (file(b"(" * 3000), "header cannot be read"),
    (file(b"{[]: 1}"), "header cannot be read"),
    (file(b"__import__('os')"), "header cannot be read"),
    (file(b"\0\xff"), "header cannot be read"),
]


@pytest.mark.parametrize(("body", "said"), NO_FILES, ids=[said for _, said in NO_FILES])
def test_files_that_are_none(client, body, said):
    with pytest.raises(MalformedBodyError) as error:
        read_npy(body)
    assert said in str(error.value)
    response = post(client, body)
    assert response.status_code == 400
    assert response.json()["detail"] == str(error.value)


@given(array=hnp.arrays(hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(
    sizes=(16, 32, 64)), hnp.array_shapes(min_dims=0, min_side=0)))  # fmt: skip
def test_what_numpy_writes_comes_back(array):
    for order in (array, np.asfortranarray(array)):
        got = read_npy(save(order))
        assert (got.dtype, got.shape) == (order.dtype, order.shape)
        np.testing.assert_array_equal(got, array)
    again = np.load(io.BytesIO(write_npy(array)))
    np.testing.assert_array_equal(again, array)


@settings(max_examples=500)
@given(place=st.integers(0, 127), some=st.binary(min_size=1, max_size=6))
def test_mutations_are_read_as_numpy_reads_them_or_refused(place, some):
    body = bytearray(file())
    body[place : place + len(some)] = some
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of literals that no header should hold
        try:
            got = read_npy(bytes(body))
        except MalformedBodyError:
            return
        wanted = np.load(io.BytesIO(bytes(body)), allow_pickle=False)
    np.testing.assert_array_equal(got, wanted)


def test_documented(client):
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/models/{model}/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", NPY}
    assert set(operation["responses"]["200"]["content"]) == {"application/json", NPY}
    assert "X-Mcdrop-Id" in operation["responses"]["200"]["headers"]
    assert "406" in operation["responses"]
    query = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
    assert query >= {
        "samples", "seed", "tolerance", "interval", "sets", "abstain_above", "outputs",
    }  # fmt: skip
    assert all(p["description"] for p in operation["parameters"])
