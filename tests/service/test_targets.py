import pytest
import torch

from mcdrop.program.manifest import UNKNOWN, Manifest, TensorSpec
from mcdrop.tasks import Binary, Classification, Gaussian, Regression
from service.errors import InvalidRequestError
from service.targets import read_targets

INPUT = TensorSpec(name="x", dtype="float32", shape=(None, 2))


def manifest(task, classes=None):
    output = TensorSpec(name="y", dtype="float32", shape=(None, 2))
    return Manifest(
        name="m", task=task, classes=classes, inputs=(INPUT,), outputs=(output,), files=UNKNOWN
    )


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        (Classification(), [1, 0], [1, 0]),
        (Classification(), [1.0, 0], [1, 0]),
        (Classification(), ["no", 1.0], [0, 1]),
        (Classification(), [["no", 1], [0, "yes"]], [[0, 1], [0, 1]]),
        (Classification(), [2.0**62], [2**62]),
        (Binary(), [True, 0, "yes"], [1, 0, 1]),
    ],
)
def test_labels_are_numbers_or_names(task, given, expected):
    made = read_targets(manifest(task, ("no", "yes")), given)
    assert made.dtype == torch.int64
    assert made.tolist() == expected


@pytest.mark.parametrize("task", [Regression(), Gaussian()])
def test_numbers_keep_their_digits(task):
    given = [[0.1, 1e100], [-1e-300, 2**24 + 1]]
    made = read_targets(manifest(task), given)
    assert made.dtype == torch.float64
    assert made.tolist() == given


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (Classification(), [0.5], r"class numbers or names; got 0\.5"),
        (Classification(), [None], "got null"),
        (Classification(), [{"a": 1}], "got an object"),
        (Classification(), [0, [1]], "ragged"),
        (Classification(), [2**63], "got 9223372036854775808"),
        (Classification(), [1e300], r"got 1e\+300"),
        (Classification(), [[], []], "got empty ones"),
        (Classification(), ["maybe"], "no class 'maybe'; there are: no, yes"),
        (Regression(), ["1.5"], r'numbers up to 1e\+100; got "1\.5"'),
        (Regression(), [-1e101], r"numbers up to 1e\+100; got -1e\+101"),
        (Regression(), [True], "got true"),
        (Regression(), [[1.0], [1.0, 2.0]], "ragged"),
    ],
)
def test_other_targets_are_refused(task, given, said):
    classes = ("no", "yes") if isinstance(task, Classification) else None
    with pytest.raises(InvalidRequestError, match=said):
        read_targets(manifest(task, classes), given)


def test_names_of_classes_without_names_are_refused():
    with pytest.raises(InvalidRequestError, match="no names here: send numbers"):
        read_targets(manifest(Classification()), ["cat"])


def test_lists_of_any_depth_are_refused_in_words():
    nested = [1]
    for _ in range(500):
        nested = [nested]
    with pytest.raises(InvalidRequestError, match="lists more than 16 deep"):
        read_targets(manifest(Regression()), nested)
