"""`mcdrop demo`: train the demo models, or give example requests and labelled rows for them."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Demo(StrEnum):
    """The demo models; typer lists their names in the help."""

    DIGITS = "digits"
    DIABETES = "diabetes"


def demo(
    names: Annotated[
        list[Demo] | None,
        typer.Argument(help="Which to train; both by default."),
    ] = None,
    *,
    output: Annotated[Path, typer.Option(help="The models folder.")] = Path("models"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Train again what is already there.")
    ] = False,
    request: Annotated[
        Literal["digits", "diabetes", "noise"] | None,
        typer.Option(
            help="Train nothing: print the body of a predict request with one real test row; "
            "noise is an image of nothing, for the digits model.",
        ),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(
            help="Train nothing: write the labelled rows of calibration and test into this "
            "folder, for mcdrop evaluate and mcdrop calibrate.",
        ),
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="Which test row --request prints.")] = 0,
) -> None:
    r"""Train the demo models, in well under a minute, on real data that scikit-learn carries.

    digits: a small CNN for 8x8 images of handwritten digits.
    diabetes: a regression that also tells its noise, in raw clinical units.
    Each is saved as OUTPUT/NAME/1 with its held-out metrics.

    Examples:
      mcdrop demo
      mcdrop demo digits --output /tmp/models --seed 1
      mcdrop demo --labelled data
      mcdrop demo --request digits --row 3 | curl -s --json @- \
          localhost:8000/v1/models/digits/predict
      mcdrop demo --request noise | curl -s --json @- \
          localhost:8000/v1/models/digits/predict
    """
    if labelled is not None:
        _write_labelled(labelled)
        return
    if request is not None:
        _print_request(request, row)
        return
    for name in names or Demo:
        folder = output / name / "1"
        if folder.exists() and not force:
            typer.echo(f"{folder} is there already; train it again with --force")
        else:
            _train(name, output, seed)


def _write_labelled(folder: Path) -> None:
    from mcdrop.demo.labelled import write_labelled

    for path in write_labelled(folder):
        typer.echo(path)


def _print_request(name: str, row: int) -> None:
    from mcdrop.demo.request import request

    example = request(name, row)
    typer.echo(example.truth, err=True)
    typer.echo(json.dumps(example.body))


def _train(name: str, output: Path, seed: int) -> None:
    from mcdrop.cli.progress import bar
    from mcdrop.demo.train import train
    from mcdrop.loading import load

    begun = time.monotonic()
    with bar(f"training {name}", "epochs") as update:
        folder = train(name, output, seed=seed, progress=update)
    manifest = load(folder).manifest
    assert manifest is not None, "a loaded predictor has its manifest"
    figures = ", ".join(
        f"{key.replace('_', ' ')} {manifest.metrics[key]:.3f}"
        for key in (
            "accuracy",
            "debiased_calibration_error",
            "root_mean_squared_error",
            "coverage_90",
        )
        if key in manifest.metrics
    )
    typer.echo(f"{folder}: {figures} on the test rows ({time.monotonic() - begun:.0f} s)")
