"""`mcdrop compare`: every technique against no dropout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mcdrop.compare import Comparison


_FILES = ("comparison.json", "comparison.md", "comparison.png")


class Data(StrEnum):
    """What is compared on; typer lists the names in the help."""

    DIGITS = "digits"
    DIABETES = "diabetes"


def compare(
    data: Annotated[
        list[Data] | None, typer.Argument(help="On which data; on both by default.")
    ] = None,
    *,
    technique: Annotated[
        list[str] | None,
        typer.Option(
            help="Names or patterns like '*Dropout', as often as need be; all by default."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=100,
            help="Trainings of each fold; with one, the luck of a training is in no error.",
        ),
    ] = 1,
    epochs: Annotated[
        int,
        typer.Option(min=1, help="Of each training at most; validation rows say when to stop."),
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of folds, weights and batches.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write comparison.json, comparison.md and comparison.png into this folder."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that are in the folder.")
    ] = False,
) -> None:
    """Cross-validate every dropout technique, and no dropout, on real data (minutes).

    Each technique is trained in a net that has a place for it, stopped early like the net alone,
    and asked for 64 Monte Carlo samples: error, negative log-likelihood, calibration, detection of
    rows from outside, CPU time to train and to predict. "Off" is the same net with its noise off.

    Examples:
      mcdrop compare --output comparison
      mcdrop compare digits --technique 'Variational*' --technique Dropout --folds 3
    """
    from rich.console import Console

    from mcdrop.cli.folder import check_folder
    from mcdrop.cli.progress import bar
    from mcdrop.compare import compare as run
    from mcdrop.compare import require_matplotlib, rich_table

    if output is not None:
        check_folder(output, _FILES, force=force)
        require_matplotlib()
    found = []
    for name in data or Data:
        with bar(f"comparing on {name.value}", "trainings") as update:
            found.append(
                run(
                    name.value,
                    count=folds,
                    seeds=seeds,
                    epochs=epochs,
                    patterns=technique,
                    seed=seed,
                    progress=update,
                )
            )
        console = Console()
        console.print(rich_table(found[-1], console.width))
    if output is not None:
        for path in _write(found, output):
            typer.echo(path)


def _write(found: Sequence[Comparison], folder: Path) -> list[Path]:
    from mcdrop.cli.folder import publish
    from mcdrop.compare import draw, markdown

    data, page, picture = _FILES
    dicts = [comparison.to_dict() for comparison in found]
    parts = [f"## {comparison.data}\n\n{markdown(comparison)}\n" for comparison in found]
    publish(folder, {data: json.dumps(dicts, indent=1) + "\n", page: "\n".join(parts)})
    draw(found, folder / picture)
    return [folder / name for name in _FILES]
