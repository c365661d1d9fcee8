"""NVIDIA's own client, in JSON and in binary mode, against the server as a process."""

import numpy as np
import pytest
import torch

import mcdrop

http = pytest.importorskip("tritonclient.http")

ROWS = np.array([[0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4]], np.float32)


@pytest.fixture(scope="module")
def triton(served):
    with http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        yield client


def given(name, array, datatype, *, binary=False):
    tensor = http.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_health_and_metadata(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("shapes")
    assert triton.is_model_ready("shapes", "1")
    assert not triton.is_model_ready("broken")
    assert triton.get_server_metadata()["name"] == "mcdrop"
    metadata = triton.get_model_metadata("shapes", "2")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


def test_infer(triton, repository):
    asked = ["mean", "mutual_information", "samples"]
    result = triton.infer(
        "shapes",
        [given("x", ROWS, "FP32")],
        model_version="1",
        outputs=[http.InferRequestedOutput(name, binary_data=False) for name in asked],
        request_id="abc",
        parameters={"mc_samples": 25, "mc_seed": 9},
    )
    expected = mcdrop.load(repository / "shapes" / "1").predict(
        torch.from_numpy(ROWS), samples=25, seed=9
    )
    answer = result.get_response()
    assert (answer["id"], answer["model_version"]) == ("abc", "1")
    assert [output["name"] for output in answer["outputs"]] == asked
    for name in asked:
        array = result.as_numpy(name)
        np.testing.assert_allclose(array, expected.fields()[name].numpy(), rtol=1e-5, atol=1e-7)
    assert result.as_numpy("samples").dtype == np.int64


def test_two_inputs_and_all_outputs(triton):
    ids = np.array([[1, 2, 3], [4, 5, 6]], np.int64)
    # without outputs the client asks for binary ones, and reads JSON as well
    result = triton.infer("pair", [given("x", ROWS, "FP32"), given("ids", ids, "INT64")])
    assert result.as_numpy("mean").shape == (2, 2)
    assert np.isfinite(result.as_numpy("entropy")).all()


def test_undefined_numbers_are_nan_again(triton):
    result = triton.infer("shapes", [given("x", ROWS, "FP32")], parameters={"mc_samples": 1})
    assert np.isnan(result.as_numpy("standard_error")).all()


def test_binary_by_default(triton, repository):
    result = triton.infer(
        "shapes",
        [given("x", ROWS, "FP32", binary=True)],
        model_version="1",
        request_id="abc",
        parameters={"mc_samples": 25, "mc_seed": 9},
    )
    answer = result.get_response()
    assert (answer["id"], answer["model_version"]) == ("abc", "1")
    fields = (
        mcdrop.load(repository / "shapes" / "1")
        .predict(torch.from_numpy(ROWS), samples=25, seed=9)
        .fields()
    )
    assert [output["name"] for output in answer["outputs"]] == list(fields)
    for output in answer["outputs"]:
        assert "data" not in output
        array = result.as_numpy(output["name"])
        expected = fields[output["name"]].numpy()
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-7)


def test_binary_and_json_in_one_request(triton):
    ids = np.array([[1, 2, 3], [4, 5, 6]], np.int64)
    result = triton.infer(
        "pair",
        [given("x", ROWS, "FP32", binary=True), given("ids", ids, "INT64")],
        outputs=[
            http.InferRequestedOutput("entropy", binary_data=False),
            http.InferRequestedOutput("mean", binary_data=True),
        ],
    )
    entropy, mean = result.get_response()["outputs"]
    assert "data" in entropy
    assert mean["parameters"] == {"binary_data_size": 2 * 2 * 4}
    np.testing.assert_allclose(result.as_numpy("mean").sum(1), 1, rtol=1e-5)


def test_bfloat16_travels_in_binary(triton, repository):
    import ml_dtypes  # tritonclient needs it

    rows = given("x", ROWS.astype(ml_dtypes.bfloat16), "BF16", binary=True)
    result = triton.infer("brain", [rows], parameters={"mc_seed": 3, "mc_samples": 40})
    expected = mcdrop.load(repository / "brain" / "1").predict(
        torch.from_numpy(ROWS).bfloat16(), samples=40, seed=3
    )
    np.testing.assert_allclose(result.as_numpy("mean"), expected.mean.numpy(), rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_both_ways(triton, algorithm, binary):
    many = np.tile(ROWS, (200, 1))

    def ask(**compression):
        outputs = [http.InferRequestedOutput("mean", binary_data=binary)]
        inputs = [given("x", many, "FP32", binary=binary)]
        return triton.infer("shapes", inputs, outputs=outputs, **compression)

    plain = ask()
    compressed = ask(
        request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    np.testing.assert_allclose(
        compressed.as_numpy("mean"), plain.as_numpy("mean"), rtol=1e-5, atol=1e-6
    )


def test_many_at_once(triton, served):
    with http.InferenceServerClient(f"127.0.0.1:{served.port}", concurrency=8) as client:
        pending = [
            client.async_infer("shapes", [given("x", ROWS, "FP32")], parameters={"mc_seed": seed})
            for seed in range(16)
        ]
        means = [request.get_result().as_numpy("mean") for request in pending]
    for seed, mean in enumerate(means):
        alone = triton.infer("shapes", [given("x", ROWS, "FP32")], parameters={"mc_seed": seed})
        # a seed asked for before may be computed in another way: equal to rounding
        np.testing.assert_allclose(mean, alone.as_numpy("mean"), rtol=1e-5, atol=1e-6)


def test_errors_reach_the_client_as_text(triton):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=r"expected shape \[rows, 4\]"):
        triton.infer("shapes", [given("x", ROWS[:, :3], "FP32")])
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        triton.infer("nope", [given("x", ROWS, "FP32")])
