"""The data sets bundled with scikit-learn, split once and for all. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcdrop.errors import McdropError

SPLIT_SEED = 0
TEST_SHARE = 0.25
CALIBRATION_SHARE = 0.2  # of what is not for the test
MEASUREMENTS = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
MISSING = "the demo models need scikit-learn, which carries their data: pip install 'mcdrop[eval]'"


@dataclass(frozen=True, slots=True)
class Split:
    """Rows for training, and rows that training never sees.

    Attributes:
        train: inputs and targets, `[N, ...]` and `[N]` or `[N, D]`.
        calibration: the same, held out to calibrate on.
        test: the same, held out to measure on.
        source: where the data come from.
        rule: how they were split.
    """

    train: tuple[NDArray[np.float32], NDArray[np.generic]]
    calibration: tuple[NDArray[np.float32], NDArray[np.generic]]
    test: tuple[NDArray[np.float32], NDArray[np.generic]]
    source: str
    rule: str


def digits() -> Split:
    """Images of handwritten digits `[N, 1, 8, 8]`, pixels in 0..1, with their classes `[N]`.

    Raises:
        McdropError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise McdropError(MISSING) from error
    bunch = load_digits()
    images = (bunch.images / 16.0).astype(np.float32)[:, None]
    rest, test, classes, tested = train_test_split(
        images, bunch.target, test_size=TEST_SHARE, stratify=bunch.target, random_state=SPLIT_SEED
    )
    train, held, trained, calibrated = train_test_split(
        rest, classes, test_size=CALIBRATION_SHARE, stratify=classes, random_state=SPLIT_SEED
    )
    return Split(
        train=(train, trained),
        calibration=(held, calibrated),
        test=(test, tested),
        source="scikit-learn load_digits: 1797 images, the test part of UCI's Optical Recognition "
        "of Handwritten Digits (Alpaydin & Kaynak, 1998; CC BY 4.0)",
        rule=f"{len(train)} train, {len(held)} calibration, {len(test)} test, stratified by class, "
        f"train_test_split(random_state={SPLIT_SEED}) twice",
    )


def diabetes() -> Split:
    """Ten measurements of a patient `[N, 10]` and the disease's progression `[N, 1]`, raw units.

    Raises:
        McdropError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_diabetes
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise McdropError(MISSING) from error
    bunch = load_diabetes(scaled=False)
    rest, test, targets, tested = train_test_split(
        bunch.data.astype(np.float32),
        bunch.target.astype(np.float32)[:, None],
        test_size=TEST_SHARE,
        random_state=SPLIT_SEED,
    )
    train, held, trained, calibrated = train_test_split(
        rest, targets, test_size=CALIBRATION_SHARE, random_state=SPLIT_SEED
    )
    return Split(
        train=(train, trained),
        calibration=(held, calibrated),
        test=(test, tested),
        source="scikit-learn load_diabetes(scaled=False): 442 patients "
        "(Efron, Hastie, Johnstone & Tibshirani, 2004)",
        rule=f"{len(train)} train, {len(held)} calibration, {len(test)} test, "
        f"train_test_split(random_state={SPLIT_SEED}) twice",
    )
