"""Stays: how far the rows of an ask have come, and which blocks of samples they still need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mcdrop.prediction import Prediction, joined
from mcdrop.residents import Guest
from mcdrop.sampling import BLOCK
from service.batching.ask import Ask


@dataclass(slots=True, eq=False)
class Stay:
    """Some rows of an ask, while they are resident.

    Attributes:
        visit: of which this is a part.
        guest: the rows.
        place: of this part among the parts of the ask.
        needs: the blocks still to be taken, a bit for each.
    """

    visit: Visit
    guest: Guest
    place: int
    needs: int

    @property
    def rows(self) -> int:
        """How many rows are still sampled."""
        return len(self.guest.slots)

    @property
    def samples(self) -> int:
        """Of each row, at most."""
        return self.visit.ask.samples

    @property
    def offers(self) -> int:
        """The blocks that could be taken next."""
        return self.needs & -self.needs if self.visit.ask.in_order else self.needs

    @property
    def taken(self) -> int:
        """How many blocks were taken."""
        return -(-self.samples // BLOCK) - self.needs.bit_count()

    def stop(self, block: int) -> int:
        """Number behind the last sample up to and with a block."""
        return min(self.samples, (block + 1) * BLOCK)

    def take(self, first: int, count: int) -> None:
        """Put on record that blocks were taken."""
        self.needs &= ~(((1 << count) - 1) << first)


@dataclass(slots=True, eq=False)
class Visit:
    """An ask that has entered, with as many of its rows as are resident at a time.

    Attributes:
        ask: what was asked.
        tag: the device's time that it has had, by which the next one to be served is found.
        parts: how many parts its rows are cut into.
        stays: those that are resident.
        answers: what is known of those that are done, by place.
    """

    ask: Ask[Any]
    tag: float
    parts: int
    stays: list[Stay] = field(default_factory=list)
    answers: dict[int, Prediction] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows are resident."""
        return sum(stay.rows for stay in self.stays)

    @property
    def left(self) -> int:
        """Row-samples that the resident rows still need, at most."""
        return sum(stay.rows * stay.needs.bit_count() for stay in self.stays) * BLOCK

    @property
    def all_begun(self) -> bool:
        """Whether every row of the ask has samples."""
        begun = sum(stay.taken > 0 for stay in self.stays)
        return begun + len(self.answers) == self.parts

    def coming(self) -> range:
        """The parts that enter next: all of them, or the one behind those that are done."""
        done = len(self.answers)
        return range(done, self.parts if self.ask.together else done + 1)

    def joined(self) -> Prediction:
        """What is known of all rows, once all parts are done."""
        return joined([self.answers[place] for place in range(self.parts)])

    def next(self) -> Stay:
        """The stay that has come least far."""
        return max(self.stays, key=lambda stay: stay.needs.bit_count())


def all_blocks(samples: int) -> int:
    """The blocks of so many samples, a bit for each.

    Example:
        >>> bin(all_blocks(33))
        '0b111'
    """
    return (1 << -(-samples // BLOCK)) - 1


def blocks(bits: int) -> Iterator[int]:
    """The numbers of the blocks, the lowest first.

    Example:
        >>> list(blocks(0b1010))
        [1, 3]
    """
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def run_length(bits: int, first: int) -> int:
    """How many blocks follow each other from `first` on.

    Example:
        >>> run_length(0b110111, 0), run_length(0b110111, 4)
        (3, 2)
    """
    shifted = ~(bits >> first)
    return (shifted & -shifted).bit_length() - 1
