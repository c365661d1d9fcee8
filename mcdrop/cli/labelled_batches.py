"""Batches of labelled rows, all of one size, out of what the blocks of a file left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBatch:
    """Good rows, as the model takes them.

    Attributes:
        inputs: by name, of the model's types, `[B, ...]`.
        target: int64 class indices or 0 and 1, or floats, `[B, ...]`; `None` without targets.
        groups: text of each row, if a group was asked for.
        first: number of the first row among the good ones, counted from 0.
    """

    inputs: dict[str, Tensor]
    target: Tensor | None
    groups: tuple[str, ...] | None
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The good rows of a block, and the share of the file before and behind the block."""

    inputs: dict[str, Tensor]
    target: Tensor | None
    groups: Sequence[str] | None
    begin: float
    end: float

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, start: int, stop: int) -> Piece:
        """Some of them."""
        return Piece(
            {name: values[start:stop] for name, values in self.inputs.items()},
            None if self.target is None else self.target[start:stop],
            None if self.groups is None else self.groups[start:stop],
            self.begin,
            self.end,
        )

    def batch(self, first: int) -> LabelledBatch:
        """All of them."""
        groups = None if self.groups is None else tuple(self.groups)
        return LabelledBatch(self.inputs, self.target, groups, first)


def regrouped(pieces: Iterable[Piece], size: int) -> Iterator[tuple[LabelledBatch, float]]:
    """Batches of `size` rows, the last perhaps smaller, with the share of the file behind each."""
    held: list[Piece] = []
    first = 0
    for piece in pieces:
        before = sum(map(len, held))
        held.append(piece)
        if before + len(piece) < size:
            continue
        whole = _joined(held)
        full = len(whole) - len(whole) % size
        for start in range(0, full, size):
            stop = start + size
            share = piece.begin + (piece.end - piece.begin) * (stop - before) / len(piece)
            yield whole.rows(start, stop).batch(first), share
            first += size
        held = [whole.rows(full, len(whole))] if full < len(whole) else []
    if held:
        yield _joined(held).batch(first), 1.0


def _joined(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    targets = [piece.target for piece in pieces if piece.target is not None]
    groups = None
    if last.groups is not None:
        groups = [text for piece in pieces for text in piece.groups or ()]
    return Piece(
        {name: torch.cat([piece.inputs[name] for piece in pieces]) for name in last.inputs},
        torch.cat(targets) if targets else None,
        groups,
        last.begin,
        last.end,
    )
