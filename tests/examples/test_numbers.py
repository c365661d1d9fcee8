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
STRETCHES = ("first", "calibrated on", "held out")
TABLE = ("test patients", "moved away")

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
    raw, mended = (
        {part: figure(rf"(?m:^){part}.* 90% intervals cover {which}", text) for part in STRETCHES}
        for which in (r"([\d.]+)%", r"[\d.]+%, calibrated ([\d.]+)%")
    )
    assert raw["first"] > 90  # too wide, though it was trained on them
    parts = re.findall(r"    epistemic ± ([\d.]+), aleatoric ± ([\d.]+)", text)
    epistemic, aleatoric = ([float(pair[place]) for pair in parts] for place in (0, 1))
    assert max(epistemic) < 1.2 * min(epistemic)  # measured: within 5%
    assert aleatoric[0] == min(aleatoric)  # so that what counts twice weighs most there
    assert abs(mended["calibrated on"] - 90) < 5  # 392 days, in 28 windows
    assert abs(mended["held out"] - 90) < 10


def test_tabular_regression(tmp_path):
    text = printed("tabular_regression", tmp_path)
    for name in (r"RMSE ([\d.]+)", r"NLL ([\d.]+)"):
        assert figure(f"network: .*{name}", text) < figure(f"average patient: .*{name}", text)
    assert 75 < figure(r"90% .*hold ([\d.]+)%", text) < 99
    inside = figure(r"test patients: epistemic ± ([\d.]+)", text)
    assert figure(r"moved away: epistemic ± ([\d.]+)", text) > 1.5 * inside
    totals = [figure(rf"{name}: .* total ± ([\d.]+)", text) for name in TABLE]
    assert totals[1] < 1.5 * totals[0]  # and the total does not grow so
    assert len(re.findall(r"hold [\d.]+% ± [\d.]+% of", text)) == 2
    rates = [float(rate) for rate in re.findall(r"0\.\d{3}", text.splitlines()[0])]
    assert len(rates) == 3
    assert max(rates) - min(rates) > 0.05  # all began with 0.1


def test_active_learning(tmp_path):
    text = printed("active_learning", tmp_path)
    rows = [re.findall(r"([\d.]+)% ±", line) for line in text.splitlines()]
    rows = [[float(cell) for cell in row] for row in rows if len(row) == 3]
    assert len(set(rows[0])) == 1  # every way begins with the same labels
    assert min(rows[-1]) > max(rows[0]) + 1  # and all of them learn
    # Of 300 labels asked for by chance, 67% ± 3% are blends: 12 points are four standard errors,
    # crossed by chance once in 10,000 times. Measured: 89% and 37%.
    share = figure(r"blends: (\d+)% of the pool", text)
    for way in ("entropy", "random", "BALD"):
        shares = figure(rf"(?m:^){way}: blends are ([\d.]+)%", text)
        apart = {"entropy": 1, "random": 0, "BALD": -1}[way]
        if apart:
            assert apart * (shares - share) > 12, way
        else:
            assert abs(shares - share) < 12
    # Measured +3.9 ± 1.1 and +10.0 ± 2.2 over three seeds, +2.9 ± 0.8 and +6.3 ± 1.8 over six.
    for other in ("random", "entropy"):
        over = figure(rf"BALD less {other}: .* end, ([+-][\d.]+)", text)
        assert over > 0


def test_meta_dropout(tmp_path):
    text = printed("meta_dropout", tmp_path)
    for side in ("MAML", "gates", "Meta Dropout"):
        assert figure(rf"(?m:^){side}: ([\d.]+)%", text) > 45  # chance: 33.3
    assert len(re.findall(r"points: (?:not )?clear", text)) == 2
    # the sides differ in noise and in learning φ, and in nothing else
    lines = dict(re.findall(r"(?m:^)(gates|Meta Dropout): (.* points)", text))
    assert lines["gates"] != lines["Meta Dropout"]
    moved = {side: figure(rf"φ of {side}: moved by ([\d.]+)", text) for side in (*lines, "MAML")}
    assert moved["MAML"] == 0
    assert min(moved["gates"], moved["Meta Dropout"]) > 0.005
    assert moved["gates"] != moved["Meta Dropout"]
