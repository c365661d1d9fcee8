import json

import numpy as np
import pytest

from mcdrop.demo import data
from mcdrop.demo.request import REQUESTS, request
from mcdrop.errors import InputError

SHAPES = {"digits": (1, 1, 8, 8), "diabetes": (1, 10), "noise": (1, 1, 8, 8)}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_json_with_one_row_of_the_models_shape(name):
    body = json.loads(json.dumps(request(name).body, allow_nan=False))
    assert set(body) == {"inputs"}
    assert np.shape(body["inputs"]) == SHAPES[name]


def test_a_request_holds_the_test_row_and_says_what_it_is():
    images, classes = data.digits().test
    example = request("digits", row=7)
    np.testing.assert_array_equal(np.float32(example.body["inputs"])[0], images[7])
    assert str(classes[7]) in example.truth
    features, targets = data.diabetes().test
    example = request("diabetes", row=2)
    np.testing.assert_allclose(np.float32(example.body["inputs"])[0], features[2], rtol=1e-6)
    assert f"{targets[2][0]:g}" in example.truth


def test_noise_differs_by_row_and_repeats():
    assert request("noise", 1).body == request("noise", 1).body
    assert request("noise", 1).body != request("noise", 2).body


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("mnist", 0, "one of digits, diabetes, noise; got 'mnist'"),
        ("digits", 450, "450 test rows"),
        ("digits", -1, "counted from 0"),
    ],
)
def test_what_is_not_there_is_refused(name, row, message):
    with pytest.raises(InputError, match=message):
        request(name, row)
