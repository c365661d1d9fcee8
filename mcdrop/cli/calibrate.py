"""`mcdrop calibrate`: from an artifact and held-out rows to a calibrated artifact."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mcdrop.cli.options import BatchSize, Device, Samples, Seed, Targets, device_name


class Method(StrEnum):
    """How probabilities or deviations are recalibrated; typer lists them in the help."""

    AUTO = "auto"
    NONE = "none"
    SAMPLE_TEMPERATURE = "sample_temperature"
    TEMPERATURE = "temperature"
    VECTOR = "vector"
    MATRIX = "matrix"
    HISTOGRAM = "histogram"
    ISOTONIC = "isotonic"
    DEVIATION = "deviation"
    QUANTILES = "quantiles"


class Conformal(StrEnum):
    """Scores of conformal sets and intervals."""

    AUTO = "auto"
    NONE = "none"
    THR = "thr"
    APS = "aps"
    RAPS = "raps"
    SCALED = "scaled"
    ABSOLUTE = "absolute"
    CQR = "cqr"


def calibrate(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of an artifact.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Labelled rows that it was not trained on: .csv, .npz, .parquet or .safetensors.",
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="The calibrated artifact, such as models/NAME/NEXT-VERSION.")
    ],
    *,
    method: Annotated[
        Method,
        typer.Option(
            help="Classes: sample_temperature (inside of the average over samples; the default), "
            "temperature (outside), vector, matrix, histogram, isotonic. Numbers: deviation (the "
            "default), quantiles."
        ),
    ] = Method.AUTO,
    conformal: Annotated[
        Conformal,
        typer.Option(
            help="Classes: thr (the default), aps, raps. Numbers: scaled (in predicted standard "
            "deviations; the default), absolute, cqr. Sets and cqr take half of the rows."
        ),
    ] = Conformal.AUTO,
    level: Annotated[float, typer.Option(help="Level of cqr; the others serve every level.")] = 0.9,
    test: Annotated[
        Path | None,
        typer.Option(help="Rows to evaluate the result on; the artifact carries the figures."),
    ] = None,
    target: Targets = None,
    samples: Samples = None,
    seed: Seed = None,
    device: Device = "auto",
    batch_size: BatchSize = 256,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
) -> None:
    """Fit a recalibration and conformal sets or intervals, as a new version of the artifact.

    Predictions of the new artifact are calibrated, in Python, with `mcdrop
    predict` and on the server. What ARTIFACT was calibrated with is replaced.

    Examples:
      mcdrop calibrate models/digits/1 held_out.npz --target label --output models/digits/2
      mcdrop calibrate models/diabetes/1 held_out.csv --target progression \
          --conformal absolute --test test.csv --output models/diabetes/2
    """
    from rich.console import Console

    from mcdrop.cli.figures import summary
    from mcdrop.cli.held_out import gathered, measured
    from mcdrop.cli.progress import bar
    from mcdrop.errors import InputError
    from mcdrop.loading import load
    from mcdrop.republish import save_again

    if output.exists() and not force:
        raise InputError(f"{output} exists: choose another folder, or replace it with --force")
    if not 0.0 < level < 1.0:
        raise typer.BadParameter("lies strictly between 0 and 1", param_hint="--level")
    mc = load(artifact, device=device_name(device))
    inputs, truth = gathered(mc, data, targets=target, batch_size=batch_size)
    with bar("calibrating", "rows·samples") as update:
        fitted = mc.calibrate(
            inputs,
            truth,
            method=method.value,
            conformal=conformal.value,
            level=level,
            samples=samples,
            seed=seed,
            source=data.name,
            progress=update,
        )
    typer.echo(f"fitted on {len(truth)} rows of {data.name}: {fitted.describe() or 'nothing'}")
    if 0 < fitted.scaling_cases < fitted.cases:
        rest = fitted.cases - fitted.scaling_cases
        typer.echo(f"  {fitted.scaling_cases} cases for the scaling, {rest} for what is conformal")
    evaluation = None
    if test is not None:
        evaluation = measured(
            mc,
            test,
            targets=target,
            group=None,
            ood=None,
            samples=samples,
            seed=seed,
            batch_size=batch_size,
        )
        Console().print(summary(evaluation))
    assert mc.manifest is not None, "a loaded predictor has its manifest"
    save_again(
        mc,
        output,
        version=int(output.name) if output.name.isdecimal() else mc.manifest.version + 1,
        evaluation=evaluation,
        provenance={"calibration": f"{fitted.describe()}; {len(truth)} rows of {data.name}"},
        overwrite=force,
    )
    typer.echo(f"{output}: calibrated", err=True)
