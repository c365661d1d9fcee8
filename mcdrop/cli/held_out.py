"""Held-out rows of a file: predicted for an evaluation, or gathered for a calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import typer
from torch import Tensor

from mcdrop.cli.labelled import LabelledRows, read_labelled
from mcdrop.cli.progress import bar
from mcdrop.errors import InputError
from mcdrop.evaluation import Evaluation, Labelled
from mcdrop.evaluation import evaluate as evaluated
from mcdrop.predictor import MCDropout
from mcdrop.program import Manifest
from mcdrop.tasks import Gaussian, Regression

_TARGET = ("target",)


def measured(
    mc: MCDropout,
    data: Path,
    *,
    targets: Sequence[str] | None,
    group: str | None,
    ood: Path | None,
    samples: int | None,
    seed: int | None,
    batch_size: int,
) -> Evaluation:
    """Evaluate a predictor on a file, with a progress bar; bad rows are told on stderr.

    Raises:
        InputError: the file does not fit the model, or has no row that can be used; or numbers
            are to be evaluated with a single sample.
    """
    taken = samples or _manifest(mc).defaults.samples
    if taken < 2 and isinstance(mc.task, Regression | Gaussian):
        raise InputError(
            "numbers are evaluated with 2 samples or more: the variance of a single one is unknown"
        )
    rows = read_labelled(data, _manifest(mc), targets=targets or _TARGET, group=group)
    other = None
    if ood is not None:
        ignored = [*(targets or _TARGET), *([group] if group else [])]
        other = read_labelled(ood, _manifest(mc), targets=None, ignore=ignored)
    try:
        document = evaluated(
            mc,
            _labelled(rows, batch_size),
            source=data.name,
            samples=samples,
            seed=seed,
            others=None if other is None else _inputs(other, batch_size),
            other_source="" if ood is None else ood.name,
        )
    finally:  # where none of them can be used, these are the reasons
        tell_bad_rows(rows)
        if other is not None:
            tell_bad_rows(other)
    found = document.data.model_copy(
        update={"bad_rows": rows.bad.count, "bad": tuple(rows.bad.places)}
    )
    return document.model_copy(update={"data": found})


def gathered(
    mc: MCDropout, data: Path, *, targets: Sequence[str] | None, batch_size: int
) -> tuple[dict[str, Tensor], Tensor]:
    """All rows of a file that can be used: inputs by name, and targets.

    Raises:
        InputError: the file does not fit the model, or has no such row.
    """
    rows = read_labelled(data, _manifest(mc), targets=targets or _TARGET)
    batches = list(rows.batches(batch_size))
    tell_bad_rows(rows)
    if not batches:
        raise InputError(f"{data} holds no row that can be used")
    inputs = {
        name: torch.cat([batch.inputs[name] for batch in batches]) for name in batches[0].inputs
    }
    truth = [batch.target for batch in batches if batch.target is not None]
    return inputs, torch.cat(truth)


def tell_bad_rows(rows: LabelledRows) -> None:
    """Name the rows that were left out, on stderr."""
    bad = rows.bad
    if not bad.count:
        return
    typer.echo(f"{rows.path}: {bad.count} rows cannot be used and are left out:", err=True)
    for place in bad.places:
        typer.echo(f"  {place}", err=True)
    if bad.count > len(bad.places):
        typer.echo(f"  and {bad.count - len(bad.places)} more", err=True)


def _labelled(rows: LabelledRows, size: int) -> Iterator[Labelled]:
    with bar("evaluating", "rows") as update:
        done = 0
        for batch in rows.batches(size):
            assert batch.target is not None, "targets were asked for"
            yield Labelled(batch.inputs, batch.target, batch.groups)
            done += len(batch.target)
            update(done, _total(rows, done))


def _inputs(rows: LabelledRows, size: int) -> Iterator[dict[str, Tensor]]:
    with bar("other data", "rows") as update:
        done = 0
        for batch in rows.batches(size):
            yield batch.inputs
            done += len(next(iter(batch.inputs.values())))
            update(done, _total(rows, done))


def _total(rows: LabelledRows, done: int) -> int:
    """Rows in all; judged by the share of the file that was read, where nobody has counted them."""
    if rows.total is not None:
        return rows.total
    return max(done, round(done / max(rows.share, 1e-9)))


def _manifest(mc: MCDropout) -> Manifest:
    assert mc.manifest is not None, "a loaded predictor has its manifest"
    return mc.manifest
