"""The demo models' labelled rows as files, to evaluate and calibrate with."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcdrop.demo import data

_NOISE_ROWS = 200


def write_labelled(folder: Path) -> list[Path]:
    """Write the calibration and test parts of both sets, and images of noise.

    `digits-*.npz` hold `image` and `label`, `noise.npz` only `image`; `diabetes-*.csv` have a
    column for each measurement and `progression`.

    Args:
        folder: made if need be; files of these names are replaced.

    Returns:
        The files.

    Raises:
        McdropError: scikit-learn is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits, diabetes = data.digits(), data.diabetes()
    written = []
    for part in ("calibration", "test"):
        images, labels = getattr(digits, part)
        written.append(folder / f"digits-{part}.npz")
        np.savez(written[-1], image=images, label=labels)
        written.append(folder / f"diabetes-{part}.csv")
        _write_table(written[-1], *getattr(diabetes, part))
    noise = np.random.default_rng(0).integers(0, 17, size=(_NOISE_ROWS, 1, 8, 8)) / 16.0
    written.append(folder / "noise.npz")
    np.savez(written[-1], image=noise.astype(np.float32))
    return written


def _write_table(path: Path, features: NDArray[np.float32], targets: NDArray[np.generic]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.MEASUREMENTS, "progression"])
        writer.writerows(np.column_stack([features, targets]).astype(float).round(4).tolist())
