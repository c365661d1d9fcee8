"""`mcdrop evaluate`: what an artifact's predictions are worth, measured on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcdrop.cli.options import BatchSize, Device, Samples, Seed, Targets, device_name


def evaluate(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of an artifact.")],
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Labelled rows: .csv, .npz, .parquet or .safetensors."),
    ],
    *,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.json and report.html; made if need be."),
    ] = None,
    target: Targets = None,
    group: Annotated[
        str | None, typer.Option(help="Column that names a group: figures for each of them.")
    ] = None,
    ood: Annotated[
        Path | None,
        typer.Option(help="Rows of other data, which the uncertainties should tell from DATA."),
    ] = None,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Put the evaluation into ARTIFACT: the server tells it."),
    ] = False,
    samples: Samples = None,
    seed: Seed = None,
    device: Device = "auto",
    batch_size: BatchSize = 256,
    force: Annotated[
        bool, typer.Option("--force", help="Replace metrics.json and report.html in the folder.")
    ] = False,
) -> None:
    """Measure accuracy, calibration, selective prediction and uncertainty.

    DATA must be rows that the model was neither trained nor calibrated on. It
    is streamed: larger than memory works. A CSV needs a first line of names.
    Rows that cannot be used are counted and told by line, never dropped in
    silence. Every figure comes with a 95% bootstrap interval.

    Examples:
      mcdrop evaluate models/diabetes/1 test.csv --target progression --report report
      mcdrop evaluate models/digits/1 test.npz --target label --ood noise.npz --report report
    """
    from rich.console import Console

    from mcdrop.cli.figures import summary
    from mcdrop.cli.folder import check_folder, publish
    from mcdrop.cli.held_out import measured
    from mcdrop.evaluation.report import render
    from mcdrop.loading import load
    from mcdrop.republish import save_again

    names = ("metrics.json", "report.html")
    if report is not None:
        check_folder(report, names, force=force)
    mc = load(artifact, device=device_name(device))
    evaluation = measured(
        mc,
        data,
        targets=target,
        group=group,
        ood=ood,
        samples=samples,
        seed=seed,
        batch_size=batch_size,
    )
    Console().print(summary(evaluation))
    if report is not None:
        publish(
            report,
            {
                "metrics.json": evaluation.model_dump_json(indent=1) + "\n",
                "report.html": render(evaluation),
            },
        )
        typer.echo(f"{report / 'report.html'}", err=True)
    if attach:
        save_again(mc, artifact, evaluation=evaluation, overwrite=True)
        typer.echo(f"{artifact} carries the evaluation now", err=True)
