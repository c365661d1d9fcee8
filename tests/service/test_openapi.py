import jsonschema_rs
import pytest

from service import Settings, create_app
from service.oip.protocol import InferRequest
from service.routes import calibration, oip, predict
from service.schemas import EvaluateRequest, PredictRequest


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def operations(document):
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_is_described_and_tagged(document):
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert operation["summary"], (path, method)
        assert operation["description"], (path, method)
        assert set(operation["tags"]) <= tags, (path, method)


def test_fastapi_s_own_error_is_nowhere(document):
    assert "HTTPValidationError" not in str(document)


def test_bodies_are_described_with_examples(document):
    for path, method, operation in operations(document):
        if method != "post" or path == "/v1/repository/reload":  # which takes none
            continue
        content = operation["requestBody"]["content"]["application/json"]
        assert set(content["schema"]["properties"]) & {"inputs", "version", "ready", "parameters"}
        assert "$ref" not in str(content["schema"])
        assert content["examples"]
        assert "429" in operation["responses"] or "4XX" in operation["responses"]


def test_examples_fit_what_they_exemplify():
    pairs = (
        (PredictRequest, predict.EXAMPLES),
        (InferRequest, oip._EXAMPLES),
        (EvaluateRequest, calibration._EXAMPLES),
    )
    for request, examples in pairs:
        for example in examples.values():
            request.model_validate(example["value"], strict=True)


def test_native_errors_are_documented_as_problems(document):
    predict = document["paths"]["/v1/models/{model}/predict"]["post"]
    for status in ("400", "404", "413", "422", "429", "503"):
        content = predict["responses"][status]["content"]
        assert list(content) == ["application/problem+json"]
    assert "Retry-After" in predict["responses"]["429"]["headers"]


def test_references_lead_somewhere(document):
    def references(part):
        if isinstance(part, dict):
            yield from [part["$ref"]] if "$ref" in part else []
            part = list(part.values())
        if isinstance(part, list):
            for item in part:
                yield from references(item)

    for reference in references(document):
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


def test_operations_are_named_for_generated_clients(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert sorted(names) == [
        "evaluate_model", "evaluate_version", "get_calibration", "get_model", "get_reliability",
        "get_repository",
        "get_version", "get_version_calibration", "get_version_reliability", "infer_model",
        "infer_version", "list_models", "live", "load_model", "metrics", "model_metadata",
        "model_ready", "pin_version", "predict", "predict_stream", "predict_version",
        "predict_version_stream", "ready", "reload_repository",
        "repository_index", "server_live", "server_metadata", "server_ready", "unload_model",
        "unpin_model", "version_metadata", "version_ready",
    ]  # fmt: skip
    assert {method for _, method, _ in operations(document)} == {"delete", "get", "post"}


def test_without_keys_the_document_knows_none(document):
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for _, _, operation in operations(document))


def test_with_keys_it_says_where_one_is_needed(tmp_path):
    app = create_app(Settings(api_keys=tmp_path / "keys.toml"))
    document = app.openapi()
    assert document == app.openapi()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "header"}
    for path, _, operation in operations(document):
        if "/health/" in path or path == "/metrics":
            assert "security" not in operation, path
            continue
        assert operation["security"] == [{"bearer": []}, {"header": []}]  # one or the other
        if "4XX" in operation["responses"]:
            continue
        kind = "application/json" if path.startswith("/v2") else "application/problem+json"
        for status in ("401", "403"):
            assert list(operation["responses"][status]["content"]) == [kind], path


def test_parameters_that_are_refused_are_not_documented(document):
    for verb, refused in (("load", {"a": 1}), ("unload", {"a": 1})):
        operation = document["paths"][f"/v2/repository/models/{{model}}/{verb}"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        validator = jsonschema_rs.validator_for(content["schema"])
        assert not validator.is_valid({"parameters": refused})
        for example in content["examples"].values():
            validator.validate(example["value"])
