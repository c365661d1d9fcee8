"""`mcdrop predict`: rows in a file, predictions with uncertainty in a file."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcdrop.cli.options import BatchSize, Device, Samples, Seed, device_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from mcdrop.calibration.record import Calibration
    from mcdrop.prediction import Prediction


def predict(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of an artifact.")],
    input_file: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="Rows: .npy, .npz, .csv, .json or .safetensors."),
    ],
    output_file: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Where the answers go: .npz, .csv or .json.")
    ],
    *,
    samples: Samples = None,
    seed: Seed = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Stop a row when the error that its mean is expected to have is no larger, looked "
            "at from 64 samples on; --samples is then the most it may use, 1024 by default."
        ),
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 256,
    interval: Annotated[
        float,
        typer.Option(
            help="For regression, the level of the interval from `lower` to `upper`; conformal "
            "where the artifact was calibrated so."
        ),
    ] = 0.9,
    sets: Annotated[
        float | None,
        typer.Option(
            help="For classes of a calibrated artifact: conformal sets of this level, as `set`."
        ),
    ] = None,
    abstain_above: Annotated[
        float | None,
        typer.Option(
            help="Mark rows whose entropy (or predicted standard deviation) is above this, as "
            "`abstain`."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which engine computed what, and why.")
    ] = False,
) -> None:
    """Predict every row of a file, with uncertainty.

    All rows are checked first: bad ones (wrong width, not a number, NaN) are
    told by line number, and nothing is predicted. OUTPUT appears only when it
    is complete.

    A CSV has a row on each line, the values of an image or a matrix one after
    the other; a first line of names is skipped. .npz, .json and .safetensors
    may hold several inputs by name.

    Examples:
      mcdrop predict models/diabetes/1 patients.csv answers.csv
      mcdrop predict models/digits/1 images.npy answers.npz --samples 1000
      mcdrop demo --request digits > one.json
      mcdrop predict models/digits/1 one.json answers.json
    """
    for name, level in (("--interval", interval), ("--sets", sets)):
        if level is not None and not 0.0 < level < 1.0:
            raise typer.BadParameter("lies strictly between 0 and 1", param_hint=name)
    if abstain_above is not None and not math.isfinite(abstain_above):
        raise typer.BadParameter("is a finite number", param_hint="--abstain-above")
    if tolerance is not None and not 0.0 < tolerance < math.inf:
        raise typer.BadParameter("is a number above 0", param_hint="--tolerance")
    from mcdrop.calibration.record import Calibration
    from mcdrop.cli.answers import answers, check_output
    from mcdrop.cli.progress import bar
    from mcdrop.cli.rows import read_rows
    from mcdrop.errors import InputError
    from mcdrop.loading import load
    from mcdrop.predictor import MOST_SAMPLES

    check_output(output_file, force=force)
    mc = load(artifact, device=device_name(device))
    manifest = mc.manifest
    assert manifest is not None, "a loaded predictor has its manifest"
    calibration = mc.calibration or Calibration(mc.task)
    if sets is not None and calibration.sets is None:
        raise InputError(
            f"{artifact} has no conformal sets; fit them on held-out rows with `mcdrop calibrate`"
        )
    rows = read_rows(input_file, manifest.inputs)
    count = samples or (manifest.defaults.samples if tolerance is None else MOST_SAMPLES)
    work = len(rows) * count
    used = 0
    begun = time.monotonic()
    with (
        answers(output_file, manifest.classes, force=force) as writer,
        bar("predicting", "rows·samples") as update,
    ):
        for start, inputs in rows.batches(batch_size):
            prediction = mc.predict(
                inputs,
                samples=count,
                seed=seed,
                tolerance=tolerance,
                first_row=start,
                progress=_shifted(update, start * count, work),
            )
            used += int(prediction.samples.sum())
            fields = _fields(
                prediction,
                calibration,
                interval=interval,
                sets=sets,
                abstain_above=abstain_above,
            )
            writer.write(fields)
    seconds = time.monotonic() - begun
    drawn = f"{count}" if used == work else f"{used / len(rows):.0f} (of at most {count})"
    typer.echo(
        f"{len(rows)} rows x {drawn} samples in {seconds:.1f} s "
        f"({used / max(seconds, 1e-9):,.0f} rows·samples/s): {output_file}",
        err=True,
    )
    if explain:
        typer.echo(str(mc.plan), err=True)


def _shifted(
    update: Callable[[int, int], None], begun: int, total: int
) -> Callable[[int, int], None]:
    """Progress within a batch, told as progress of the whole."""
    return lambda done, _: update(begun + done, total)


def _fields(
    prediction: Prediction,
    calibration: Calibration,
    *,
    interval: float,
    sets: float | None,
    abstain_above: float | None,
) -> dict[str, Tensor]:
    """The prediction's fields; before them the likeliest class, behind them what was asked for."""
    from mcdrop.calibration.abstention import Abstention
    from mcdrop.cli.answers import LABEL
    from mcdrop.prediction import RegressionPrediction
    from mcdrop.tasks import Classification

    fields = prediction.fields()
    if isinstance(calibration.task, Classification):
        fields = {LABEL: prediction.mean.argmax(calibration.task.dim), **fields}
    if isinstance(prediction, RegressionPrediction):
        fields["lower"], fields["upper"] = calibration.interval(prediction, interval)
    if sets is not None:
        fields["set"] = calibration.conformal_sets(prediction, sets)
    if abstain_above is not None:
        policy = Abstention(abstain_above, float("nan"))
        fields["abstain"] = policy(calibration.uncertainty(prediction))
    return fields
