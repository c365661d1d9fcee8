"""Options that several commands have, and what their values mean."""

from __future__ import annotations

from typing import Annotated

import typer

Samples = Annotated[
    int | None, typer.Option(min=1, help="Monte Carlo samples; by default the artifact's.")
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Seed of the masks; by default the artifact's.")
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:N, or auto: the first GPU if there is one.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows predicted at a time.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Column or array with the truth; 'target' by default. Repeatable, for several "
        "outputs.",
    ),
]


def device_name(name: str) -> str:
    """`auto` as the device that it means here."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
