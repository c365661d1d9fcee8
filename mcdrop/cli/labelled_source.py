"""What a reader of labelled data gives, whatever the format: blocks of rows, not yet checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from mcdrop.errors import InputError

BLOCK = 2**15
"""About how many values of a file are held at a time, at least a row."""

NAMED = 20

Values: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns (or arrays) of a file are for; those without a role are the inputs.

    Attributes:
        targets: names of the columns with the truth.
        group: name of the column that tells groups.
        ignored: names of columns that are no inputs, wherever they are there.
    """

    targets: tuple[str, ...] = ()
    group: str | None = None
    ignored: frozenset[str] = frozenset()

    def wanted(self) -> tuple[str, ...]:
        """Names that must be there."""
        return self.targets if self.group is None else (*self.targets, self.group)

    def known(self) -> set[str]:
        """Names that have a role."""
        return {*self.wanted(), *self.ignored}

    def inputs(self, names: Sequence[str]) -> list[int]:
        """Positions of the names that are inputs."""
        known = self.known()
        return [place for place, name in enumerate(names) if name not in known]

    def check(self, path: Path, what: str, names: Sequence[str]) -> None:
        """Raise unless what is wanted is there, once.

        Raises:
            InputError: a name is missing, or there more than once.
        """
        for name in self.wanted():
            if name not in names:
                role = "target" if name in self.targets else "group"
                raise InputError(
                    f"{path}: expected {what} {name!r}, the {role}; there are {listed(names)}"
                )
            if list(names).count(name) > 1:
                raise InputError(f"{path}: {what} {name!r} is there more than once: rename one")


def listed(names: Sequence[str]) -> str:
    """Names for an error message; many are cut short."""
    shown = ", ".join(name or "''" for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (shown or "none") + more


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that follow one another, as they stand in the file.

    Attributes:
        numbers: line or row number of each.
        inputs: numbers `[n, ...]` by the input's name.
        targets: `[n, ...]` for each target column: numbers, or text (and `None`) as objects.
        groups: `[n]`, likewise.
        share: share of the file up to the end of the block, 0 to 1.
        faults: what is wrong with rows that could not be read, by their place in the block; any
            values stand in for theirs.
    """

    numbers: Sequence[int]
    inputs: Mapping[str, Values]
    targets: tuple[Values, ...]
    groups: Values | None
    share: float
    faults: dict[int, str] = field(default_factory=dict)


class Source(Protocol):
    """A file of labelled rows, opened."""

    @property
    def total(self) -> int | None:
        """How many rows there are, if that is known without reading them."""

    def place(self, number: int) -> str:
        """Where a row is in the file, for people: `line 17`."""

    def where(self, name: str, at: int) -> str:
        """Where in a row a value of an input is, counted in row-major order, for people."""

    def blocks(self) -> Iterator[Block]:
        """All rows, from the first, block by block."""
