"""`mcdrop export`: from a factory to an artifact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mcdrop.tasks import AnyTask

AXIS = re.compile(r"(?P<name>.+):(?P<axis>\d+)=(?P<low>\d+)\.\.(?P<high>\d+)")


def export(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY",
            help="A callable without arguments that returns (module, example_inputs); "
            "the current folder is searched first.",
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The artifact, such as models/NAME/VERSION.")
    ],
    *,
    task: Annotated[
        str,
        typer.Option(
            help="classification, binary, multilabel, regression or gaussian; or a task in JSON, "
            """such as '{"kind": "classification", "dim": -1, "entry": "logits"}'."""
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the model; by default OUTPUT's last but one part.")
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(min=1, help="Version; by default OUTPUT's last part if it is a number, or 1."),
    ] = None,
    description: Annotated[
        str, typer.Option(help="What goes in and what comes out, with units.")
    ] = "",
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the classes: cat,dog,owl, or @FILE with one on each line."),
    ] = None,
    dynamic_axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT:AXIS=LOW..HIGH",
            help="An axis that may vary besides the batch, such as input_ids:1=1..512. Repeatable.",
        ),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="Sample only sites that match this pattern, such as 'head.*'. Repeatable."
        ),
    ] = None,
    masks: Annotated[
        Literal["shared", "independent"],
        typer.Option(help="One mask for all rows (a function draw), or one for each row."),
    ] = "shared",
    sampling: Annotated[
        Literal["balanced", "iid"],
        typer.Option(help="Each unit dropped in as nearly p of the samples as can be, or at will."),
    ] = "balanced",
    samples: Annotated[int, typer.Option(min=1, help="Samples of a prediction by default.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a prediction by default.")] = 0,
    provenance: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=TEXT", help="How the model was made. Repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
) -> None:
    r"""Turn a PyTorch model into an artifact: a folder of data, no code, that mcdrop can serve.

    The factory gives the trained module and an example of its inputs: build
    the net, load its weights, return both.

    Examples:
      mcdrop export nets:build models/mine/1 --task classification \
          --classes cat,dog,owl --provenance data=photos-2026
      mcdrop export nets:text models/text/3 --dynamic-axis input_ids:1=1..128 \
          --task '{"kind": "binary", "entry": "logits"}'
    """
    _refuse(output, force)
    name = name or _name(output)
    version = version or (int(output.name) if output.name.isdigit() else 1)
    parsed = _task(task)
    axes = _axes(dynamic_axis or [])
    made = dict(_pair(item) for item in provenance or [])
    labels = None if classes is None else _classes(classes)

    from mcdrop.cli.factory import build
    from mcdrop.cli.quiet import quiet
    from mcdrop.predictor import MCDropout

    built = build(target)
    with quiet(ctx):
        mc = MCDropout(
            built.model,
            built.example_inputs,
            task=parsed,
            masks=masks,
            sampling=sampling,
            sites=site or None,
            dynamic_axes=axes or None,
        )
    folder = mc.save(
        output,
        name=name,
        version=version,
        description=description,
        classes=labels,
        provenance={"made_by": "mcdrop export", "factory": target, **made},
        samples=samples,
        seed=seed,
        overwrite=force,
    )
    typer.echo(f"{name} version {version} is in {folder}; look at it: mcdrop info {folder}")


def _refuse(output: Path, force: bool) -> None:
    from mcdrop.errors import InputError

    if output.exists() and not force:
        raise InputError(f"{output} exists: choose another folder, or replace it with --force")


def _name(output: Path) -> str:
    found = output.parent.name if output.name.isdigit() else output.name
    if not found:
        raise typer.BadParameter("cannot be read off OUTPUT: give it", param_hint="--name")
    return found


def _task(text: str) -> AnyTask:
    from pydantic import TypeAdapter, ValidationError

    from mcdrop.errors import InputError
    from mcdrop.tasks import AnyTask, resolve

    try:
        if text.lstrip().startswith("{"):
            parsed: AnyTask = TypeAdapter(AnyTask).validate_json(text)
            return parsed
        return resolve(text)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--task") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise typer.BadParameter(message, param_hint="--task") from None


def _axes(texts: list[str]) -> dict[str, dict[int, tuple[int, int]]]:
    axes: dict[str, dict[int, tuple[int, int]]] = {}
    for text in texts:
        match = AXIS.fullmatch(text)
        if match is None:
            raise typer.BadParameter(
                f"expected INPUT:AXIS=LOW..HIGH, such as input_ids:1=1..512; got {text!r}",
                param_hint="--dynamic-axis",
            )
        bounds = int(match["low"]), int(match["high"])
        axes.setdefault(match["name"], {})[int(match["axis"])] = bounds
    return axes


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"expected KEY=TEXT; got {text!r}", param_hint="--provenance")
    return key, value


def _classes(text: str) -> tuple[str, ...]:
    names = Path(text[1:]).read_text().splitlines() if text.startswith("@") else text.split(",")
    stripped = tuple(name.strip() for name in names if name.strip())
    if len(stripped) < 2:
        raise typer.BadParameter("expected at least two names", param_hint="--classes")
    return stripped
