"""What schemathesis cannot know: rows that fit a model, and what no answer of ours may say.

It runs in a process of its own, which schemathesis.toml tells to read this file.
"""

import json
import os
import re
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

CLASSES = [*range(11), "3", "circle", "nobody"]
FLOAT = st.floats(-3, 3, width=32)
WILD = FLOAT | st.sampled_from([0, -0.0, 1e-45, 1e30, 3.4e38, 3.5e38, 1e308, 2**63])
TOKENS = st.integers(1, 17)
OUTPUT = st.sampled_from(["mean", "variance", "entropy", "label", "lower", "set", "abstain"])
DATATYPES = {"ids": "INT64", "brain": "BF16"}
INSIDE = re.compile(r"Traceback|site-packages|\.py\b|0x[0-9a-f]{8}|torch\.|pydantic")


def nested(value, *shape):
    for size in reversed(shape):
        value = st.lists(value, min_size=size, max_size=size)
    return value


def floats(*shape):
    return nested(FLOAT, *shape) | nested(WILD, *shape)


# by model, what its inputs are for a number of rows
INPUTS = {
    "diabetes": lambda rows: {"features": floats(rows, 10)},
    "digits": lambda rows: {"image": floats(rows, 1, 8, 8)},
    "shapes": lambda rows: {"x": floats(rows, 4)},
    "brain": lambda rows: {"x": floats(rows, 4)},
    "tags": lambda rows: {"x": TOKENS.flatmap(lambda tokens: floats(rows, tokens, 4))},
    "pair": lambda rows: {
        "x": floats(rows, 4),
        "ids": nested(st.integers(0, 9) | st.sampled_from([-1, 10]), rows, 3),
    },
}


@schemathesis.hook
def flatmap_case(context, case):
    """Half of the bodies with inputs get rows that fit; all else is as it was generated."""
    model = case.path_parameters.get("model")
    if not isinstance(case.body, dict) or "inputs" not in case.body or model not in INPUTS:
        return st.just(case)
    return st.just(case) | fitting(case, model)


@schemathesis.hook
def before_call(context, case, kwargs):
    """What the document has no words for, and would keep the tests from what lies behind it."""
    # what is unloaded answers no more: one model is kept for that, or soon nothing would answer
    if case.path.endswith("/unload") and case.path_parameters.get("model") in INPUTS:
        case.path_parameters = {"model": "spare"}
    if case.meta is None or case.media_type != "application/json":
        return
    # the query goes with .npy, the length of the JSON with binary tensors
    if case.path.endswith("/predict") and not case.meta.is_negative_at(ParameterLocation.QUERY):
        case.query = {}
    if case.path.endswith("/infer") and not case.meta.is_negative_at(ParameterLocation.HEADER):
        case.headers.pop("Inference-Header-Content-Length", None)


@st.composite
def fitting(draw, case, model):
    """The case with inputs (and targets) that fit, and some of the fields that it had beside."""
    rows = draw(st.integers(1, 3))
    inputs = {name: draw(values) for name, values in INPUTS[model](rows).items()}
    kept = draw(st.sets(st.sampled_from(sorted(case.body)), max_size=2))
    body = {name: case.body[name] for name in kept}
    if case.path.endswith("/infer"):
        body["inputs"] = [tensor(name, values, model) for name, values in inputs.items()]
    else:
        body["inputs"] = inputs
    if case.path.endswith("/predict") and draw(st.booleans()):
        body |= {"samples": draw(st.integers(1, 501)), "outputs": draw(st.lists(OUTPUT))}
    if case.path.endswith("/evaluate"):
        target = WILD if model == "diabetes" else st.sampled_from(CLASSES)
        body |= {"targets": draw(nested(target, rows)), "groups": None}
    case.body = body
    return case


def tensor(name, data, model):
    datatype = DATATYPES.get(name) or DATATYPES.get(model) or "FP32"
    return {"name": name, "shape": shape(data), "datatype": datatype, "data": data}


def shape(data):
    return [len(data), *shape(data[0])] if isinstance(data, list) else []


@schemathesis.check
def nothing_of_the_inside(ctx, response, case):
    """No answer tells where the models lie, or what the server is made of."""
    said = response.text
    assert os.environ["MCDROP_FUZZ_MODELS"] not in said, (
        f"the answer names the models folder: {said:.300}"
    )
    if response.status_code >= 400:
        found = INSIDE.search(said.replace(str(case.path_parameters.get("model")), ""))
        assert found is None, f"the answer speaks of {found[0]!r}: {said:.300}"


@schemathesis.check
def unavailable_is_what_the_model_is(ctx, response, case):
    """503 comes from models that cannot answer, or not in time, with the time to come again."""
    if response.status_code != 503 or "/ready" in case.path:
        return
    if "the deadline passed" not in response.text:  # a sound model, asked to be too quick
        assert case.path_parameters.get("model") in {"broken", "shapes", "spare"}, response.text
    assert response.headers["retry-after"] == ["1"]


@schemathesis.check
def every_answer_has_an_id(ctx, response, case):
    """X-Request-ID, whatever the answer is."""
    assert len(response.headers["x-request-id"]) == 1


@schemathesis.check
class Statuses:
    """Writes down what each operation has answered, for the test to read."""

    def __init__(self):
        self.seen = {}

    def after_response(self, ctx, response, case):
        operation = case.operation
        if case.method.lower() == operation.method:  # and not one that the path does not have
            seen = self.seen.setdefault(operation.definition.raw["operationId"], {})
            seen[response.status_code] = seen.get(response.status_code, 0) + 1

    def after_run(self, ctx):
        Path(os.environ["MCDROP_FUZZ_STATUSES"]).write_text(json.dumps(self.seen))
