import numpy as np
import pytest

from mcdrop.demo import data
from mcdrop.demo.labelled import write_labelled


@pytest.mark.parametrize("load", [data.digits, data.diabetes])
def test_split_is_the_same_every_time_and_parts_are_disjoint(load):
    first, again = load(), load()
    for part in ("train", "calibration", "test"):
        for one, other in zip(getattr(first, part), getattr(again, part), strict=True):
            np.testing.assert_array_equal(one, other)
    parts = [{row.tobytes() for row in part[0]} for part in (first.train, first.calibration)]
    assert not parts[0] & parts[1]
    assert not any(row.tobytes() in parts[0] | parts[1] for row in first.test[0])


def test_digits_are_scaled_images_with_every_class_in_all_parts_alike():
    split = data.digits()
    assert split.train[0].shape == (1077, 1, 8, 8)
    assert split.calibration[0].shape == (270, 1, 8, 8)
    assert split.test[0].shape == (450, 1, 8, 8)
    assert split.train[0].dtype == np.float32
    assert (split.train[0].min(), split.train[0].max()) == (0.0, 1.0)
    for _, classes in (split.train, split.calibration, split.test):
        shares = np.bincount(classes) / len(classes)
        assert np.allclose(shares, 0.1, atol=0.01)


def test_diabetes_is_in_raw_units():
    split = data.diabetes()
    features, targets = split.train
    assert features.shape == (264, 10)
    assert targets.shape == (264, 1)
    assert split.calibration[0].shape == (67, 10)
    assert 19 <= features[:, 0].min() < features[:, 0].max() <= 79  # years
    assert set(features[:, 1]) == {1.0, 2.0}
    assert 25 <= targets.min() < targets.max() <= 346


def test_labelled_rows_are_written_as_the_models_take_them(tmp_path):
    written = write_labelled(tmp_path / "data")
    assert sorted(path.name for path in written) == [
        "diabetes-calibration.csv", "diabetes-test.csv", "digits-calibration.npz",
        "digits-test.npz", "noise.npz",
    ]  # fmt: skip
    with np.load(tmp_path / "data" / "digits-test.npz") as found:
        images, labels = data.digits().test
        assert np.array_equal(found["image"], images)
        assert np.array_equal(found["label"], labels)
    table = np.loadtxt(tmp_path / "data" / "diabetes-test.csv", delimiter=",", skiprows=1)
    measured, progression = data.diabetes().test
    np.testing.assert_allclose(table, np.hstack([measured, progression]), atol=1e-4)
