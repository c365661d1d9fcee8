"""Moments of samples that come in blocks: the error of the mean, from the spread of block means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from mcdrop.estimate.moments import Moments


@dataclass(frozen=True, slots=True)
class Spread:
    """Weighted mean of block means, and their weighted squared deviations; weight n² for n samples.

    Attributes:
        blocks: how many.
        weight: sum of the weights.
        mean: weighted mean of block means, `[B, ...]`.
        m2: weighted sum of squared deviations from it, `[B, ...]`.
    """

    blocks: int
    weight: float
    mean: Tensor
    m2: Tensor

    @staticmethod
    def of(means: Tensor, samples: int) -> Spread:
        """Blocks of so many samples each, by their means `[K, B, ...]`."""
        blocks, weight = means.shape[0], float(samples) ** 2
        centre = means.mean(0)
        return Spread(blocks, blocks * weight, centre, (means - centre).square_().sum(0) * weight)

    def merge(self, other: Spread) -> Spread:
        """Both sets of blocks together."""
        weight = self.weight + other.weight
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.weight / weight)
        m2 = self.m2 + other.m2 + delta.square() * (self.weight * other.weight / weight)
        return Spread(self.blocks + other.blocks, weight, mean, m2)

    def about(self, centre: Tensor) -> Tensor:
        """Weighted sum of squared deviations from `centre`."""
        return self.m2 + self.weight * (self.mean - centre).square()


@dataclass(frozen=True, slots=True)
class BlockMoments:
    r"""Moments of samples drawn in blocks of `size`, independent between blocks only.

    With :math:`n_k` samples and mean :math:`b_k` in block k of K, and n samples in all:

    .. math:: SE^2 = \frac{K}{K-1} \sum_k \frac{n_k^2}{n^2} (b_k - \bar x)^2, \qquad
              s^2 = \overline{x^2} - \bar x^2 + SE^2

    For blocks of one these are :math:`s^2/n` and the usual unbiased variance. Samples within a
    block repel each other, so inside a single block only the formulas for independent samples are
    left: the standard error is then an upper bound in all but odd cases, and the variance is off
    by at most half of 1/(size - 1).

    Attributes:
        size: samples of a block; 1 for independent samples.
        every: moments of all samples.
        spread: of the blocks that are complete.
        open: moments of those that are not, by number.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 3.0, 2.0, 2.0])
        >>> moments = BlockMoments.of(x, start=0, size=2)
        >>> moments.standard_error().item(), round(moments.variance().item(), 3)
        (0.0, 0.5)
    """

    size: int
    every: Moments
    spread: Spread | None = None
    open: dict[int, Moments] = field(default_factory=dict)

    @staticmethod
    def of(values: Tensor, start: int, size: int) -> BlockMoments:
        """Moments of the samples from number `start` on, `[S, B, ...]`."""
        moments = BlockMoments(size, Moments.of(values))
        if size == 1:
            return moments
        stop = start + values.shape[0]
        first, last = -(-start // size) * size, stop // size * size  # of the complete blocks
        if first < last:
            whole = values[first - start : last - start].unflatten(0, (-1, size))
            means = whole.mean(1, dtype=moments.mean.dtype)
            moments = replace(moments, spread=Spread.of(means, size))
        edges = [(start, first), (last, stop)] if first <= last else [(start, stop)]
        for begin, end in edges:
            if begin < end:
                part = Moments.of(values[begin - start : end - start])
                moments = moments.with_block(begin // size, part)
        return moments

    def with_block(self, number: int, part: Moments) -> BlockMoments:
        """The same samples, some of which are now known to belong to a block."""
        if number in self.open:
            part = self.open[number].merge(part)
        rest = {key: value for key, value in self.open.items() if key != number}
        if part.count < self.size:
            return replace(self, open={**rest, number: part})
        new = Spread.of(part.mean[None], self.size)
        return replace(
            self, open=rest, spread=new if self.spread is None else self.spread.merge(new)
        )

    def merge(self, other: BlockMoments) -> BlockMoments:
        """Both sets of samples together; a block may be spread over the two."""
        assert self.size == other.size
        spreads = [s for s in (self.spread, other.spread) if s is not None]
        spread = spreads[0].merge(spreads[1]) if len(spreads) == 2 else next(iter(spreads), None)
        merged = replace(self, every=self.every.merge(other.every), spread=spread)
        for number, part in other.open.items():
            merged = merged.with_block(number, part)
        return merged

    def rows(self, index: Tensor) -> BlockMoments:
        """The moments of some rows."""
        spread = self.spread
        return BlockMoments(
            self.size,
            self.every.rows(index),
            spread and replace(spread, mean=spread.mean[index], m2=spread.m2[index]),
            {number: part.rows(index) for number, part in self.open.items()},
        )

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.every.count

    @property
    def mean(self) -> Tensor:
        """Mean over samples, `[B, ...]`."""
        return self.every.mean

    def variance(self) -> Tensor:
        """Variance over samples; NaN for a single one."""
        return self.deviations()[0]

    def standard_error(self) -> Tensor:
        """Standard error of the mean; NaN for a single sample."""
        return self.deviations()[1]

    def deviations(self) -> tuple[Tensor, Tensor]:
        """Variance and standard error together."""
        error = self._between()
        if error is not None:
            return self.every.m2 / self.count + error, error.sqrt()
        variance = self.every.variance()
        if self.size > 1:
            # between nothing and 1 / (size - 1) too large, by how far the samples repel each other
            variance = variance / (1.0 + 0.5 / (self.size - 1))
        return variance, (variance / self.count).sqrt()

    def _between(self) -> Tensor | None:
        """Squared standard error from the spread of block means; `None` with fewer than two."""
        spread = self.spread
        for part in self.open.values():
            unfinished = Spread.of(part.mean[None], part.count)
            spread = unfinished if spread is None else spread.merge(unfinished)
        if spread is None or spread.blocks < 2:
            return None
        factor = spread.blocks / (spread.blocks - 1) / self.count**2
        return spread.about(self.mean) * factor
