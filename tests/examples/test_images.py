"""The examples on images: each runs as its docstring says, draws, and bears out what it claims."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("image_classification", "segmentation", "selective_prediction")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What an example prints, and where its picture is; each runs once."""
    folder = tmp_path_factory.mktemp("examples") / "deep"
    kept = {}

    def run(name):
        if name not in kept:
            # the script's own folder is first on its path: the packages are told where they lie
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
            script = ROOT / "examples" / f"{name}.py"
            result = subprocess.run(
                [sys.executable, script, "--quick", "--output", folder],
                cwd=tmp_path_factory.getbasetemp(),
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            kept[name] = result.stdout
        return kept[name], folder / f"{name}.png"

    return run


ORDERS = (
    "one pass, 1 - largest probability",
    "Monte Carlo, 1 - largest probability",
    "Monte Carlo, mutual information",
)


def numbers_of(text, start):
    """The numbers behind the words that one line starts with; percentages as shares."""
    lines = [line for line in text.splitlines() if line.startswith(start)]
    assert len(lines) == 1, f"{len(lines)} lines start with {start!r} in\n{text}"
    found = re.findall(r"(\d+(?:\.\d+)?)(%?)", lines[0].removeprefix(start))
    return [float(number) / (100 if percent else 1) for number, percent in found]


@pytest.mark.parametrize("name", NAMES)
def test_it_draws_where_it_is_told_to(printed, name):
    text, path = printed(name)
    assert text.splitlines()[-1] == str(path)
    pixels = imread(path)
    height, width = pixels.shape[:2]
    assert height > 300
    assert width > 900
    for part in (pixels[:, : width // 2, :3], pixels[:, width // 2 :, :3]):
        assert part.std() > 0.05  # neither half is blank


def test_classification_errs_where_it_is_unsure(printed):
    text, _ = printed("image_classification")
    accuracy, loss, error = numbers_of(text, "Monte Carlo dropout")
    assert accuracy > 0.8  # of ten classes
    after, calibrated_loss, calibrated_error = numbers_of(text, "calibrated")
    assert after > 0.8
    assert calibrated_loss < loss
    assert calibrated_error < error
    fair, fair_loss, _ = numbers_of(text, "one pass, calibrated")
    assert abs(fair - after) < 0.03
    areas = [numbers_of(text, f"AUROC of {name}: ")[0] for name in ORDERS]
    assert min(areas) > 0.75  # 0.5 for guessing
    assert max(areas) - min(areas) < 0.1  # none is said to be better
    apart, deviation = numbers_of(text, "Monte Carlo less one pass, both calibrated: log loss ")
    assert 0 < deviation < 0.05
    assert abs(apart - abs(calibrated_loss - fair_loss)) < 2e-4  # what the table says, rounded
    (surest,) = numbers_of(text, "errors among the surest eighth: ")
    (least,) = numbers_of(text, "errors among the least sure eighth: ")
    assert least > surest + 0.1


def test_segmentation_errs_where_it_is_unsure(printed):
    text, _ = printed("segmentation")
    _, overlap = numbers_of(text, "Monte Carlo dropout")
    assert overlap > 0.4  # paper everywhere has less than a third
    (surest,) = numbers_of(text, "errors among the surest tenth of the pixels: ")
    (least,) = numbers_of(text, "errors among the least sure tenth: ")
    (found,) = numbers_of(text, "share of all errors that lie in the least sure tenth: ")
    assert least > surest + 0.2
    assert found > 0.25  # 0.1 by chance


def test_selection_answers_better_and_declines_what_is_new(printed):
    text, _ = printed("selective_prediction")
    (wrong,) = numbers_of(text, "wrong, all 493 test images answered: ")
    answered, wrong_answers = numbers_of(text, "answered: ")
    (one_pass,) = numbers_of(text, "wrong, all of them answered by one pass: ")
    assert abs(one_pass - wrong) < 0.05
    assert answered > 0.4
    assert wrong_answers < wrong / 2
    selection, detection = text.split("AUROC against")
    for name in ("max-probability, one pass", "entropy", "mutual information"):
        area, risk = numbers_of(selection, name + " ")
        assert area < wrong / 2  # of an order that tells nothing, it is the share of errors
        assert risk < wrong
        assert min(numbers_of(detection, name + " ")) > 0.6  # 0.5 for guessing
    (known,) = numbers_of(detection, "digits 0 to 7: ")
    (unknown,) = numbers_of(detection, "digits 8 and 9: ")
    (nothing,) = numbers_of(detection, "shuffled pixels: ")
    assert min(unknown, nothing) > known + 0.3
