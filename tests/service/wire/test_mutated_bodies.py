"""Bodies that were sound once: whatever was done to them, the answer is right, or it is a refusal.

What a body still says is read here with json, numpy and protobuf, and the library answers it.
"""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mcdrop
from service import Settings
from service.wire.npy import NPY
from tests.service.effort import examples

grpc = pytest.importorskip("grpc")
from service.grpc import inference_pb2 as pb  # noqa: E402

pytestmark = pytest.mark.fuzz

LENGTH = "Inference-Header-Content-Length"
DTYPES = {"FP32": "<f4", "INT64": "<i8"}
ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]], "<f4")
IDS = np.array([[1, 2, 3], [4, 5, 9]], "<i8")
REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,  # for a name or a version that was changed
)
SOUND = {"shapes": {"x": ROWS}, "pair": {"x": ROWS, "ids": IDS}}
MODELS = sorted(SOUND)
ODD = (
    None, True, -1, 0, 1, 3, 31, 32.0, 48, 2**31, 2**63, 2**64, 1e308, "", "32", "x", "ids", "FP32",
    "INT64", "BYTES", [], [2, 4], [4, 2], [[]], {}, {"binary_data_size": 32}, {"binary_data": True},
)  # fmt: skip


@pytest.fixture(scope="module")
def live(start, repository):
    settings = Settings(
        models=repository, device="cpu", max_rows=8, max_samples=500, warmup_rows=1, grpc_port=0
    )
    with start(settings) as server:
        yield server


@pytest.fixture(scope="module")
def predictors(repository):
    versions = {"shapes": "2", "pair": "1"}
    return {name: mcdrop.load(repository / name / versions[name]) for name in MODELS}


@pytest.fixture
def untouched(live):
    """A sound request is answered as it was before, when all is done."""
    body = {"inputs": ROWS.tolist(), "outputs": ["mean"]}
    before = live.client.post("/v1/models/shapes/predict", json=body).json()["outputs"]
    yield
    after = live.client.post("/v1/models/shapes/predict", json=body).json()["outputs"]
    np.testing.assert_allclose(after["mean"], before["mean"], rtol=1e-4)


def some(kinds):
    """What to do to a request: mostly one thing, so that much of it is left."""
    return st.sampled_from(kinds).map(lambda kind: {kind}) | st.sets(st.sampled_from(kinds))


@st.composite
def changed(draw, body):
    """Bytes changed, taken out, put in, cut off, moved to the end, or all of them twice."""
    kind = draw(st.sampled_from(["change", "drop", "insert", "cut", "turn", "twice"]))
    place = draw(st.integers(0, len(body)))
    some = draw(st.binary(min_size=1, max_size=4))
    return {
        "change": body[:place] + some + body[place + len(some) :],
        "drop": body[:place] + body[place + len(some) :],
        "insert": body[:place] + some + body[place:],
        "cut": body[:place],
        "turn": body[place:] + body[:place],
        "twice": body + body,
    }[kind]


@st.composite
def rearranged(draw, raws):
    """Raw tensors swapped, dropped, repeated, or one of them changed."""
    raws = list(raws)
    kind = draw(st.sampled_from(["swap", "drop", "repeat", "change"]))
    place = draw(st.integers(0, max(len(raws) - 1, 0)))
    if kind == "swap" or not raws:
        return raws[::-1]
    if kind == "change":
        raws[place] = draw(changed(raws[place]))
    else:
        raws[place : place + 1] = [raws[place]] * (2 if kind == "repeat" else 0)
    return raws


@st.composite
def edited(draw, document):
    """One place of a JSON document taken out, or exchanged for something odd."""
    document = json.loads(json.dumps(document))
    part = document
    while True:
        key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if isinstance(part[key], dict | list) and part[key] and draw(st.booleans()):
            part = part[key]
        elif draw(st.booleans()):
            part[key] = draw(st.sampled_from(ODD))
            return document
        else:
            del part[key]
            return document


@st.composite
def rest_requests(draw):
    """A model, a body, and how long its JSON is said to be."""
    model = draw(st.sampled_from(MODELS))
    binary = draw(st.sets(st.sampled_from(sorted(SOUND[model]))))
    document, raws = {"inputs": [], "parameters": {"mc_samples": 20, "mc_seed": 5}}, []
    document["outputs"] = [{"name": "mean", "parameters": {"binary_data": draw(st.booleans())}}]
    for name, array in SOUND[model].items():
        datatype = next(known for known, kind in DTYPES.items() if array.dtype == kind)
        tensor = {"name": name, "shape": list(array.shape), "datatype": datatype}
        if name in binary:
            raws.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        else:
            tensor["data"] = array.tolist()
        document["inputs"].append(tensor)
    kinds = draw(some(["document", "raws", "twice", "body", "length", "json"]))
    if "document" in kinds:
        document = draw(edited(document))
    if "raws" in kinds:
        raws = draw(rearranged(raws))
    front = json.dumps(document).encode()
    if "json" in kinds:
        front = draw(changed(front))
    if "twice" in kinds:  # a key, of which the last counts
        front = b'{"inputs": [], "parameters": {"mc_samples": 7}, ' + front[1:]
    body, length = front + b"".join(raws), str(len(front))
    if "body" in kinds:
        body = draw(changed(body))
    if "length" in kinds:
        near = st.integers(-3, len(body) + 3).map(str)
        length = draw(near | st.sampled_from([f"0{length}", f"+{length}", "1e1", f"{length},", ""]))
    return model, body, length


def check(predictors, model, tensors, parameters, mean):
    """Hold a mean against the library's own, for what the body says when it is read naively."""
    inputs = {}
    for name, shape, values in tensors:
        dtype = SOUND[model][name].dtype
        array = np.frombuffer(values, dtype) if isinstance(values, bytes) else values
        inputs[name] = torch.from_numpy(np.array(array, dtype).reshape(shape))
    assert inputs.keys() == SOUND[model].keys()
    predicted = predictors[model].predict(
        inputs,
        samples=parameters.get("mc_samples"),
        seed=parameters.get("mc_seed"),
        tolerance=parameters.get("mc_tolerance"),
    )
    assert mean.shape == tuple(predicted.mean.shape)
    if max(float(tensor.abs().max()) for tensor in inputs.values()) < 100:  # rounding stays small
        np.testing.assert_allclose(mean, predicted.mean.numpy(), rtol=1e-3, atol=1e-5)


@examples(300)
@given(request=rest_requests())
def test_binary_tensors_over_rest(live, predictors, untouched, request):
    model, body, length = request
    response = live.client.post(f"/v2/models/{model}/infer", content=body, headers={LENGTH: length})
    assert response.status_code in {200, 400}, response.text
    if response.status_code == 400:
        assert list(response.json()) == ["error"]
        return
    asked, rest, tensors = json.loads(body[: int(length)]), body[int(length) :], []
    for tensor in asked["inputs"]:
        values = tensor.get("data")
        if "binary_data_size" in tensor.get("parameters", {}):
            size = tensor["parameters"]["binary_data_size"]
            values, rest = rest[:size], rest[size:]
        tensors.append((tensor["name"], tensor["shape"], values))
    assert rest == b""
    mean = read_mean(response)
    if mean is not None:
        check(predictors, model, tensors, asked.get("parameters", {}), mean)


def read_mean(response):
    """The output `mean` of an answer, JSON or binary; None if it was not asked for."""
    front = int(response.headers.get(LENGTH, len(response.content)))
    answer, rest = json.loads(response.content[:front]), response.content[front:]
    for output in answer["outputs"]:
        values = output.get("data")
        if values is None:
            size = output["parameters"]["binary_data_size"]
            values, rest = np.frombuffer(rest[:size], DTYPES[output["datatype"]]), rest[size:]
        if output["name"] == "mean":
            return np.array(values, float).reshape(output["shape"])
    return None


@st.composite
def grpc_messages(draw):
    """The bytes of a request, and the message that they were before they were changed."""
    model = draw(st.sampled_from(MODELS))
    message = pb.ModelInferRequest(model_name=model, outputs=[{"name": "mean"}])
    message.parameters["mc_samples"].int64_param = 20
    raws = []
    for name, array in SOUND[model].items():
        datatype = next(known for known, kind in DTYPES.items() if array.dtype == kind)
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        raws.append(array.tobytes())
    kinds = draw(some(["samples", "raws", "typed", "shape", "bytes"]))
    if "samples" in kinds:
        message.parameters["mc_samples"].int64_param = draw(st.integers(-1, 64))
    if "raws" in kinds:
        raws = draw(rearranged(raws))
    if "typed" in kinds:
        message.inputs[0].contents.fp32_contents.extend(
            draw(st.lists(st.floats(width=32), min_size=7, max_size=9))
        )
        raws = draw(st.sampled_from([raws, []]))
    if "shape" in kinds:
        sizes = st.lists(st.sampled_from([-1, 0, 1, 2, 4, 8, 2**31, 2**62]), max_size=3)
        message.inputs[0].shape[:] = draw(sizes)
    message.raw_input_contents.extend(raws)
    sent = message.SerializeToString()
    return draw(changed(sent)) if "bytes" in kinds else sent


@examples(300)
@given(sent=grpc_messages())
def test_raw_contents_over_grpc(live, predictors, untouched, sent):
    with grpc.insecure_channel(f"127.0.0.1:{live.app.state.grpc.port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        future = infer.future(sent, timeout=30)
        if future.code() is not grpc.StatusCode.OK:
            assert future.code() in REFUSALS, future
            assert future.details()
            return
        answer = future.result()
    message = pb.ModelInferRequest.FromString(sent)
    raws, tensors = message.raw_input_contents, []
    for place, tensor in enumerate(message.inputs):
        values = raws[place] if raws else list(tensor.contents.fp32_contents)
        tensors.append((tensor.name, list(tensor.shape), values))
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in message.parameters.items()
        if value.WhichOneof("parameter_choice")
    }
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        if output.name == "mean" and message.model_name in SOUND and not message.model_version:
            mean = np.frombuffer(raw, DTYPES[output.datatype]).reshape(output.shape)
            check(predictors, message.model_name, tensors, parameters, mean)


@st.composite
def npy_files(draw):
    """A .npy file of one of the layouts that NumPy writes, changed or not."""
    layouts = [ROWS, np.asfortranarray(ROWS), ROWS[:, ::-1], ROWS.T, ROWS[0], ROWS > 0, IDS]
    array = draw(st.sampled_from(layouts))
    if array.dtype == ROWS.dtype:
        array = array.astype(draw(st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", "<i2"])))
    file = io.BytesIO()
    np.save(file, array)
    body = file.getvalue()
    return draw(st.just(body) | changed(body))


@examples(200)
@given(body=npy_files(), accept=st.sampled_from([NPY, "application/json"]))
@pytest.mark.filterwarnings("ignore")  # NumPy's, of headers that no file should have
def test_npy_files(live, predictors, untouched, body, accept):
    headers = {"content-type": NPY, "accept": accept}
    response = live.client.post("/v1/models/shapes/predict", content=body, headers=headers)
    assert response.status_code in {200, 400, 422}, response.text
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
        return
    if accept == NPY:
        mean = np.load(io.BytesIO(response.content), allow_pickle=False)
    else:
        mean = np.array(response.json()["outputs"]["mean"], float)
    read = np.load(io.BytesIO(body), allow_pickle=False)
    check(predictors, "shapes", [("x", read.shape, read)], {}, mean)
