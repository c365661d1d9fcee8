"""`mcdrop info`: a page about an artifact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mcdrop.program.manifest import Manifest


def info(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of an artifact.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest as JSON, for programs.")
    ] = False,
) -> None:
    """Show what an artifact is: task, inputs, outputs, sites, metrics, and how it was made.

    The whole artifact is loaded and checked, so this also tells whether it
    is sound.

    Examples:
      mcdrop info models/digits/1
      mcdrop info models/digits/1 --json | jq .metrics
    """
    from rich.console import Console

    from mcdrop.loading import load

    manifest = load(artifact).manifest
    assert manifest is not None, "a loaded predictor has its manifest"
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
    else:
        Console().print(page(manifest))


def page(manifest: Manifest) -> RenderableType:
    """The manifest, for people."""
    from rich.console import Group
    from rich.text import Text

    title = Text.assemble((manifest.name, "bold"), f"  version {manifest.version}")
    parts: list[RenderableType] = [title]
    if manifest.description:
        parts += [Text(manifest.description)]
    parts += ["", _pairs(_facts(manifest)), _tensors(manifest), _sites(manifest)]
    if manifest.metrics:
        rows = [(name, f"{value:.4g}") for name, value in manifest.metrics.items()]
        parts += [Text("metrics", style="bold"), _pairs(rows)]
    if manifest.provenance:
        parts += [Text("provenance", style="bold"), _pairs(manifest.provenance.items())]
    return Group(*parts)


def _facts(manifest: Manifest) -> Iterable[tuple[str, str]]:
    task = manifest.task.model_dump(exclude_defaults=True, exclude={"kind"})
    details = "".join(f", {key} = {value}" for key, value in task.items())
    yield "task", manifest.task.kind + details
    if manifest.classes is not None:
        shown = ", ".join(manifest.classes[:20])
        more = f" and {len(manifest.classes) - 20} more" if len(manifest.classes) > 20 else ""
        yield "classes", shown + more
    defaults = manifest.defaults
    drawn = f"{defaults.masks} masks, {defaults.sampling}"
    yield "by default", f"{defaults.samples} samples, seed {defaults.seed}, {drawn}"


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in rows:
        table.add_row(Text(f"  {key}"), Text(value))
    return table


def _tensors(manifest: Manifest) -> Table:
    table = _table("", "name", "type", "shape")
    for heading, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            table.add_row(heading, spec.name, spec.dtype, _shape(spec.shape, spec.ranges))
    return table


def _sites(manifest: Manifest) -> Table:
    table = _table("site", "kind", "place", "p", "mask")
    for site in manifest.sites:
        p = "" if site.p is None else f"{site.p:g}"
        table.add_row(site.name, site.kind, site.place or "", p, _shape(site.shape))
    return table


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _shape(shape: Sequence[int | None], ranges: dict[int, tuple[int, int]] | None = None) -> str:
    """`[*, 3, 8..64]`, escaped for rich: a free axis is a star, or its bounds where it has any."""
    ranges = ranges or {}
    names = [
        str(size)
        if size is not None
        else "..".join(map(str, ranges[axis]))
        if axis in ranges
        else "*"
        for axis, size in enumerate(shape)
    ]
    return rf"\[{', '.join(names)}]"
