"""`mcdrop audit`: what is random in a model."""

from __future__ import annotations

import json
from typing import Annotated

import typer


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
) -> None:
    """List every place where a model is random, and what to know before trusting its spread.

    Exits with 1 if a finding is an error, so that a build can rely on it.

    Examples:
      mcdrop audit nets:build
      mcdrop audit nets:build --json | jq '.sites[].name'
    """
    from rich.console import Console

    from mcdrop.capture import audit as run_audit
    from mcdrop.cli.factory import build
    from mcdrop.cli.quiet import quiet

    built = build(target)
    with quiet(ctx):
        report = run_audit(built.model, built.example_inputs)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2))
    else:
        Console().print(report)
    if any(finding.level == "error" for finding in report.findings):
        raise typer.Exit(1)
