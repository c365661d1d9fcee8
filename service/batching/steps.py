"""Steps: which rows take which blocks of samples together next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mcdrop.sampling import BLOCK
from service.batching.stay import Stay, blocks, run_length

_LOOKED_AT = 64  # blocks, at most, among which the most wanted one is sought


@dataclass(frozen=True, slots=True)
class Step:
    """Blocks that some stays take together.

    Attributes:
        riders: who takes them, all of one `Residents`.
        first: the first block.
        count: how many.
    """

    riders: tuple[Stay, ...]
    first: int
    count: int

    @property
    def start(self) -> int:
        """Number of the first sample."""
        return self.first * BLOCK

    @property
    def stops(self) -> list[int]:
        """For each rider, the number behind its last sample."""
        return [stay.stop(self.first + self.count - 1) for stay in self.riders]

    @property
    def rows(self) -> int:
        """How many rows take part."""
        return sum(stay.rows for stay in self.riders)


def plan_step(
    chosen: Stay, others: Sequence[Stay], most_rows: int, most_blocks: Callable[[int], int]
) -> Step:
    """The step that serves one stay and as many others as can share it.

    Of the blocks that the chosen one could take, the one that most rows need goes first: so rows
    that came at different times go round the mask bank together, each from where it came in.

    Args:
        chosen: whom the step is for.
        others: with the same residents, those to be preferred first.
        most_rows: that a step may have; the chosen one's count in any case.
        most_blocks: how many it may take with so many rows.
    """
    first = _most_wanted(chosen, others)
    bit, rows = 1 << first, chosen.rows
    riders = [chosen]
    for stay in others:
        if stay.offers & bit and rows + stay.rows <= most_rows:
            riders.append(stay)
            rows += stay.rows
    return Step(tuple(riders), first, _length(riders, first, most_blocks(rows)))


def _most_wanted(chosen: Stay, others: Sequence[Stay]) -> int:
    wanted = 0
    for stay in others:
        wanted |= stay.offers
    shared = chosen.offers & wanted
    if not shared:
        return next(blocks(chosen.offers))
    best, most = -1, -1
    for _, block in zip(range(_LOOKED_AT), blocks(shared), strict=False):
        bit = 1 << block
        rows = sum(stay.rows for stay in others if stay.offers & bit)
        if rows > most:
            best, most = block, rows
    return best


def _length(riders: Sequence[Stay], first: int, most: int) -> int:
    """How many blocks all riders take one after another; one where someone looks after each."""
    common = -1
    for stay in riders:
        ask = stay.visit.ask
        if ask.tolerance is not None or ask.partial is not None:
            return 1
        common &= stay.needs
    return max(1, min(most, run_length(common, first)))
