"""Ragged estimates: rows that hold different samples, folded together all the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mcdrop.estimate.moments import widened
from mcdrop.prediction import Prediction


class Reading(Protocol):
    """What raw outputs say, and what sums of it predict; see `ClassReading`, `NumberReading`."""

    def read(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The values whose moments are wanted `[S, B, ...]`, and sums of others over samples."""
        ...

    def prediction(
        self,
        mean: Tensor,
        variance: Tensor,
        error: Tensor,
        sums: Sequence[Tensor],
        samples: Tensor,
        *,
        dtype: torch.dtype,
    ) -> Prediction:
        """A prediction of rows that hold different numbers of samples."""
        ...


@dataclass(frozen=True, slots=True)
class RaggedMoments:
    r"""`BlockMoments` of rows each of which has its own blocks; none is ever cut in two.

    With :math:`n_k` samples of a row in block k, n in all, and :math:`d_k` the sum of the
    deviations of block k's samples from the mean of all of them. The estimates are those of
    `BlockMoments`; :math:`\sum_k n_k d_k`, zero but for a last block that is not whole, is what
    moves :math:`\sum_k d_k^2` to another mean.

    Attributes:
        count: n, float64 `[B]`.
        blocks: how many, float64 `[B]`.
        alone: :math:`\sum_k n_k^2`, float64 `[B]`.
        mean: `[B, ...]`, as are the next three.
        m2: sum of squared deviations from the mean.
        squares: :math:`\sum_k d_k^2`.
        cross: :math:`\sum_k n_k d_k`.
    """

    count: Tensor
    blocks: Tensor
    alone: Tensor
    mean: Tensor
    m2: Tensor
    squares: Tensor
    cross: Tensor

    @staticmethod
    def of(values: Tensor, size: int) -> RaggedMoments:
        """Moments of samples that begin with a block, `[S, B, ...]`; the last may not be whole."""
        wide = widened(values)
        number, rows = wide.shape[:2]
        whole, rest = divmod(number, size)
        mean = wide.mean(0)
        deviations = wide - mean
        totals = deviations[: whole * size].unflatten(0, (whole, size)).sum(1)
        squares = (totals * totals).sum(0)
        cross = size * totals.sum(0)
        if rest:
            last = deviations[whole * size :].sum(0)
            squares = squares + last * last
            cross = cross + rest * last
        m2 = (deviations * deviations).sum(0)

        def each(number: int) -> Tensor:
            return torch.full((rows,), number, dtype=torch.float64, device=wide.device)

        blocks = whole + (rest > 0)
        alone = whole * size**2 + rest**2
        return RaggedMoments(each(number), each(blocks), each(alone), mean, m2, squares, cross)

    def merge(self, other: RaggedMoments) -> RaggedMoments:
        """Both sets of samples together, row by row, by Chan, Golub & LeVeque (1983)."""
        count = self.count + other.count
        share = _over(other.count / count, self.mean)
        delta = other.mean.double() - self.mean
        mean = self.mean + delta * share
        both = _over(self.count * other.count / count, self.mean)
        a = self._about(-delta * share)
        b = other._about(delta * (1.0 - share))
        return RaggedMoments(
            count,
            self.blocks + other.blocks,
            self.alone + other.alone,
            mean,
            self.m2 + other.m2 + delta * delta * both,
            (a[0] + b[0]).clamp_min_(0.0),  # only rounding can make it negative
            a[1] + b[1],
        )

    def _about(self, by: Tensor) -> tuple[Tensor, Tensor]:
        """`squares` and `cross` with deviations from a mean that is smaller by so much."""
        moved = by * _over(self.alone, by)
        return self.squares + by * (2.0 * self.cross + moved), self.cross + moved

    def deviations(self, size: int) -> tuple[Tensor, Tensor]:
        """Variance over samples and standard error of the mean, `[B, ...]`.

        Args:
            size: samples of a whole block; 1 for independent samples.
        """
        count = _over(self.count, self.mean)
        variance = torch.where(count > 1, self.m2 / (count - 1), torch.nan)
        if size > 1:  # see BlockMoments.deviations
            variance = variance / (1.0 + 0.5 / (size - 1))
        error = (variance / count).sqrt()
        if size == 1:
            return variance, error
        square = self.squares / (count * count - _over(self.alone, self.mean))
        several = _over(self.blocks, self.mean) > 1
        return (
            torch.where(several, self.m2 / count + square, variance),
            torch.where(several, square.sqrt(), error),
        )

    def expected_error(self, size: int) -> Tensor:
        """See `BlockMoments.expected_error`."""
        few = _over(self.blocks, self.mean) < 4
        factor = ((self.blocks - 1) / (self.blocks - 3).clamp_min(1.0)).sqrt()
        errors = self.deviations(size)[1] * _over(factor, self.mean)
        return torch.where(few, torch.inf, errors)


class RaggedEstimator:
    """Folds samples of rows that come and go; each row, in its slot, has samples of its own.

    Which samples a row has been given is its caller's to know. Blocks come whole, but for the last
    one of a row.

    Args:
        reading: of the task's outputs.
        block: samples of a balanced block; 1 for independent samples.
    """

    def __init__(self, reading: Reading, block: int) -> None:
        self._reading = reading
        self._block = block
        self._held: tuple[Tensor, ...] = ()  # fields of the moments, then sums: [slots, ...]
        self._dtype = torch.float32

    def update(self, outputs: tuple[Tensor, ...], slots: Tensor, room: int) -> None:
        """Fold samples of some rows.

        Args:
            outputs: of samples that begin with a block, each `[S, B, ...]`.
            slots: of the rows, int64 `[B]`, none of them twice.
            room: how many slots there are.
        """
        values, sums = self._reading.read(outputs)
        self._dtype = values.dtype
        new = RaggedMoments.of(values, self._block)
        self._make_room((*_fields(new), *sums), room)
        old, old_sums = self._at(slots)
        merged = (*_fields(old.merge(new)), *(a + b for a, b in zip(old_sums, sums, strict=True)))
        for held, value in zip(self._held, merged, strict=True):
            held.index_copy_(0, slots, value)

    def clear(self, slots: Sequence[int]) -> None:
        """Forget the rows in these slots, for others to take."""
        room = len(self._held[0]) if self._held else 0
        known = [slot for slot in slots if slot < room]  # others were never given a sample
        if known:
            index = torch.tensor(known, dtype=torch.int64, device=self._held[0].device)
            for held in self._held:
                held.index_fill_(0, index, 0)

    def expected_error(self, slots: Tensor) -> Tensor:
        """Of the mean of each row, `[B, ...]`; see `BlockMoments.expected_error`."""
        return self._at(slots)[0].expected_error(self._block)

    def prediction(self, slots: Tensor) -> Prediction:
        """What the samples of these rows say so far; each has one at least."""
        moments, sums = self._at(slots)
        return self._reading.prediction(
            moments.mean,
            *moments.deviations(self._block),
            sums,
            moments.count.long(),
            dtype=self._dtype,
        )

    def _at(self, slots: Tensor) -> tuple[RaggedMoments, tuple[Tensor, ...]]:
        parts = [held.index_select(0, slots) for held in self._held]
        return RaggedMoments(*parts[:_MOMENTS]), tuple(parts[_MOMENTS:])

    def _make_room(self, like: Sequence[Tensor], room: int) -> None:
        have = len(self._held[0]) if self._held else 0
        if have >= room:
            return
        grown = []
        for position, part in enumerate(like):
            dtype = torch.promote_types(part.dtype, torch.float64)  # as `Moments` merges
            held = torch.zeros((room, *part.shape[1:]), dtype=dtype, device=part.device)
            if have:
                held[:have] = self._held[position]
            grown.append(held)
        self._held = tuple(grown)


_MOMENTS = len(dataclasses.fields(RaggedMoments))


def _fields(moments: RaggedMoments) -> tuple[Tensor, ...]:
    return (
        moments.count,
        moments.blocks,
        moments.alone,
        moments.mean,
        moments.m2,
        moments.squares,
        moments.cross,
    )


def _over(rows: Tensor, like: Tensor) -> Tensor:
    """Numbers of rows `[B]`, to be broadcast over `[B, ...]`."""
    return rows.reshape(-1, *[1] * (like.ndim - 1))
