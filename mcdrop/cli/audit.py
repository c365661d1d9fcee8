"""`mcdrop audit`: what is random in a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from mcdrop.cli.factory import Built

MOST = 1024


def audit(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY",
            help="A callable without arguments that returns (module, example_inputs); "
            "the current folder is searched first.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="Sample only sites that match this pattern, such as 'head.*'. Repeatable."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            help=f"Measure on the first {MOST} rows of this file (.npy, .npz, .csv, .json, "
            ".safetensors), not on the example inputs: some dozens make figures mean something."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Sample the model a little; without, only its graph is read.")
    ] = True,
    samples: Annotated[int, typer.Option(min=16, help="Passes to measure with.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the masks.")] = 0,
) -> None:
    """List every place where a model is random, and what to know before trusting its spread.

    Each site has its place (input, hidden, output, weights) and its rate beside
    what is customary there; how far the mean of samples with it alone is from
    the output without it; and BatchNorms behind it, how much more they vary.

    Exits with 1 if a finding is an error, as where samples do not differ, so
    that a build can rely on it.

    Examples:
      mcdrop audit nets:build
      mcdrop audit nets:build --rows held_out.csv
      mcdrop audit nets:build --json | jq '.sites[].name'
    """
    from rich.console import Console

    from mcdrop.auditing import audit as run_audit
    from mcdrop.cli.factory import build
    from mcdrop.cli.quiet import quiet

    built = build(target)
    measured_on = None if rows is None else _read(rows, built)
    with quiet(ctx):
        report = run_audit(
            built.model,
            built.example_inputs,
            sites=site or None,
            rows=measured_on,
            measure=measure,
            samples=samples,
            seed=seed,
        )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        Console().print(report)
    if any(finding.level == "error" for finding in report.findings):
        raise typer.Exit(1)


def _read(path: Path, built: Built) -> dict[str, Tensor]:
    """The first rows of a file, as inputs of the model."""
    from mcdrop.capture.example import make_example
    from mcdrop.cli.rows import read_rows

    specs = make_example(built.model, built.example_inputs, None).specs()
    _, inputs = next(read_rows(path, specs).batches(MOST))
    return inputs
