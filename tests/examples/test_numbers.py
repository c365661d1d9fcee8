"""The examples about numbers, labels and tasks: each runs, draws, and prints what it claims."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
PARTS = ("first", "held-out")

pytestmark = pytest.mark.slow


def printed(name: str, folder: Path) -> str:
    """What the example prints with --quick; its picture is checked on the way."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", "--quick", "--output", folder],
        capture_output=True,
        check=False,  # its errors are shown below
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    pixels = imread(folder / f"{name}.png")[..., :3]
    assert min(pixels.shape[:2]) > 400
    assert pixels.std() > 0.05  # a blank picture has none
    return done.stdout


def figure(pattern: str, text: str) -> float:
    """The number in the pattern's group."""
    (value,) = re.findall(pattern, text)
    return float(value)


def test_forecasting(tmp_path):
    text = printed("forecasting", tmp_path)
    ours, naive = figure(r"forecast: ([\d.]+)", text), figure(r"week again: ([\d.]+)", text)
    assert ours < naive
    narrow, wide = figure(r"50% .*hold ([\d.]+)%", text), figure(r"90% .*hold ([\d.]+)%", text)
    assert 30 < narrow < 70
    assert 75 < wide < 99
    early, late = (figure(rf"{name} days: the model says ([\d.]+)", text) for name in PARTS)
    assert early < late  # the noise grows, and the model sees it


def test_tabular_regression(tmp_path):
    text = printed("tabular_regression", tmp_path)
    for name in (r"RMSE ([\d.]+)", r"NLL ([\d.]+)"):
        assert figure(f"network: .*{name}", text) < figure(f"average patient: .*{name}", text)
    assert 75 < figure(r"90% .*hold ([\d.]+)%", text) < 99
    inside = figure(r"test patients: epistemic ± ([\d.]+)", text)
    assert figure(r"moved away: epistemic ± ([\d.]+)", text) > 1.5 * inside
    rates = [float(rate) for rate in re.findall(r"0\.\d{3}", text.splitlines()[0])]
    assert len(rates) == 3
    assert max(rates) - min(rates) > 0.05  # all began with 0.1


def test_active_learning(tmp_path):
    text = printed("active_learning", tmp_path)
    rows = [re.findall(r"([\d.]+)% ±", line) for line in text.splitlines()]
    rows = [[float(cell) for cell in row] for row in rows if row]
    assert len(set(rows[0])) == 1  # every way begins with the same labels
    assert min(rows[-1]) > max(rows[0]) + 1  # and all of them learn


def test_meta_dropout(tmp_path):
    text = printed("meta_dropout", tmp_path)
    for side in ("MAML", "gates", "Meta Dropout"):
        assert figure(rf"(?m:^){side}: ([\d.]+)%", text) > 45  # chance: 33.3
    assert len(re.findall(r"points: (?:not )?clear", text)) == 2
