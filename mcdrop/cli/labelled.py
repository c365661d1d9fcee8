"""Labelled rows of a file, for `mcdrop evaluate` and `mcdrop calibrate`, checked in a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mcdrop.cli.labelled_arrays import open_array_source
from mcdrop.cli.labelled_batches import LabelledBatch, Piece, regrouped
from mcdrop.cli.labelled_parquet import open_parquet_source
from mcdrop.cli.labelled_source import Block, Roles, Source
from mcdrop.cli.labelled_targets import Targets, targets_of
from mcdrop.cli.labelled_text import open_csv_source
from mcdrop.cli.labelled_values import group_names, model_input
from mcdrop.cli.suffix import checked_suffix
from mcdrop.errors import InputError
from mcdrop.program.manifest import Manifest, TensorSpec

__all__ = ["BadRows", "LabelledBatch", "LabelledRows", "read_labelled"]

SUFFIXES = (".npz", ".csv", ".parquet", ".safetensors")
SHOWN = 20


@dataclass(slots=True)
class BadRows:
    """Rows that were left out.

    Attributes:
        count: how many.
        places: where the first 20 are and what is wrong with them, such as
            `line 17: value 3 (bmi) is 'n/a', not a number`.
    """

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        """Count a row, and remember it if it is among the first."""
        self.count += 1
        if len(self.places) < SHOWN:
            self.places.append(place)

    def clear(self) -> None:
        """Forget all."""
        self.count = 0
        self.places.clear()


class LabelledRows:
    """Rows of a file with their targets, read anew by every call of `batches`.

    Attributes:
        path: the file.
        total: how many rows there are, bad ones among them; `None` for a CSV, see `share`.
        bad: rows that were left out so far; grows while `batches` runs.
    """

    def __init__(
        self,
        path: Path,
        specs: Sequence[TensorSpec],
        source: Source,
        roles: Roles,
        targets: Targets | None,
    ) -> None:
        self.path = path
        self.total = source.total
        self.bad = BadRows()
        self._specs = specs
        self._source = source
        self._roles = roles
        self._targets = targets
        self._share = 0.0

    @property
    def share(self) -> float:
        """Share of the file up to the last row that `batches` gave, 0 to 1."""
        return self._share

    def batches(self, size: int) -> Iterator[LabelledBatch]:
        """Good rows, `size` at a time; the last batch may be smaller.

        A block of the file and a batch are held at a time. Each call starts anew and forgets the
        bad rows of the one before.

        Raises:
            InputError: the file turns out to be damaged.
            OSError: the file cannot be read any more.
        """
        assert size > 0, "a batch has rows"
        self.bad.clear()
        self._share = 0.0
        return self._told(size)

    def _told(self, size: int) -> Iterator[LabelledBatch]:
        for batch, share in regrouped(self._pieces(), size):
            self._share = share
            yield batch
        self._share = 1.0

    def _pieces(self) -> Iterator[Piece]:
        begin = 0.0
        for block in self._source.blocks():
            piece = self._piece(block, begin)
            begin = block.share
            if len(piece):
                yield piece

    def _piece(self, block: Block, begin: float) -> Piece:
        """Convert a block to the model's types; bad rows are told and left out."""
        faults = dict(block.faults)
        inputs = {
            spec.name: model_input(spec, block.inputs[spec.name], self._source.where, faults)
            for spec in self._specs
        }
        target, groups = None, None
        if self._targets is not None:
            target = self._targets.read(block.targets, self._roles.targets, faults)
        if block.groups is not None and self._roles.group is not None:
            groups = group_names(block.groups, self._roles.group, faults)
        if faults:
            for row in sorted(faults):
                self.bad.add(f"{self._source.place(block.numbers[row])}: {faults[row]}")
            keep = [row for row in range(len(block.numbers)) if row not in faults]
            rows = torch.tensor(keep, dtype=torch.int64)
            inputs = {name: values[rows] for name, values in inputs.items()}
            target = None if target is None else target[rows]
            groups = None if groups is None else [groups[row] for row in keep]
        return Piece(inputs, target, groups, begin, block.share)


def read_labelled(
    path: Path,
    manifest: Manifest,
    *,
    targets: Sequence[str] | None,
    group: str | None = None,
    ignore: Sequence[str] = (),
) -> LabelledRows:
    """Open a file of labelled rows: .npz, .csv, .parquet or .safetensors.

    A table (CSV, or Parquet with a number in each column) has the one input of a model in all
    columns that are no target, group or ignored, in the order of the file. Parquet may hold it in
    one column of lists, in row-major order, or several inputs in columns named as they are. Arrays
    have the names of the inputs; a single one that is left serves a single input.

    Several targets make one of `[B, T]`. A class is an index or a name of the manifest's: a whole
    number from 0 to C-1 is always an index, anything else is looked up among the names (and where a
    name is the number of another class, numbers are only ever indices). Yes or no is 1 or 0, in
    text also true or false.

    Args:
        path: the file; its suffix names the format.
        manifest: the model's.
        targets: names of the target columns; `None` for rows without targets.
        group: name of the column that tells the group of a row.
        ignore: names of columns that are no inputs, if they are there.

    Raises:
        InputError: a column is missing, shapes do not fit, there are no rows, or the file is
            damaged; single bad rows are not errors but told in `LabelledRows.bad`.
        OSError: the file cannot be read.
    """
    suffix = checked_suffix(path, SUFFIXES)
    if targets is not None and (not targets or len(set(targets)) < len(targets)):
        raise InputError(f"expected targets that differ, at least one; got {list(targets)}")
    roles = Roles(tuple(targets or ()), group, frozenset(ignore))
    wanted = None if targets is None else targets_of(manifest)
    specs = manifest.inputs
    source: Source
    if suffix == ".csv":
        if wanted is not None:
            wanted.check_shape(path, [len(roles.targets)] if len(roles.targets) > 1 else [])
        source = open_csv_source(path, specs, roles)
    elif suffix == ".parquet":
        source = open_parquet_source(path, specs, roles, wanted)
    else:
        source = open_array_source(path, specs, roles, wanted)
    return LabelledRows(path, specs, source, roles, wanted)
