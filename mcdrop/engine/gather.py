"""Gathered weights: for each sample of a chunk, the part of the network that its masks keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock

from torch import Tensor

from mcdrop.engine.kept import Kept
from mcdrop.engine.parts import Parts, Values, bytes_of
from mcdrop.engine.plan import KEPT_SAMPLES
from mcdrop.sampling import KEEP_BYTES, MaskBank

_STRETCH = 32  # samples that are gathered together to be kept
_MOST_KEPT = 4096  # samples


class Gathers:
    """Gathers what a thinned tail reads of its weights, and keeps it for a seed's first samples.

    It depends on neither rows nor inputs, so requests share it. Gathers of the first 128 samples,
    or of as many as take 8 MiB, are kept as long as they stay within a limit. All others are
    written into the same buffers again and again: memory does not grow with the number of samples,
    and memory fresh from the system costs more time than gathering does.

    Args:
        parts: what is gathered.
        limit: bytes that may be kept.
    """

    def __init__(self, parts: Parts, limit: int) -> None:
        self._parts = parts
        self._kept: Kept[Values] = Kept(limit, bytes_of)
        self._spare: list[Values] = []  # buffers, as many as threads have gathered at a time
        self._lock = Lock()

    @cached_property
    def kept_samples(self) -> int:
        """Of how many samples gathers may be kept, a power of two."""
        samples = KEPT_SAMPLES
        while samples < _MOST_KEPT and self.expected_bytes(2 * samples) <= KEEP_BYTES:
            samples *= 2
        return samples

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept."""
        return self._kept.bytes

    def expected_bytes(self, samples: int) -> int:
        """About how much so many samples take."""
        return self._parts.expected_bytes(samples)

    def forget(self) -> None:
        """Give up what is kept, and the memory to gather into."""
        with self._lock:
            self._kept.clear()
            self._spare.clear()

    @contextmanager
    def chunk(
        self, bank: MaskBank, samples: range, masks: Sequence[Tensor] | None = None
    ) -> Iterator[Mapping[str, Tensor]]:
        """The gathered inputs of a chunk, `[S, ...]` by name; not to be used afterwards.

        Args:
            bank: the masks.
            samples: numbers of the samples.
            masks: what the bank draws for them, where that is known.
        """
        buffers: Values | None = None
        with self._lock:  # who wants what another thread gathers to keep waits for it
            values = self._find(bank, samples)
            if values is None:
                wide = self._stretch(bank, samples)
                if self._may_keep(bank, wide):
                    values, buffers = self._gather_to_keep(bank, samples, wide)
                elif self._spare:
                    buffers = self._spare.pop()
        if values is None:
            buffers = {} if buffers is None else buffers
            drawn = bank.draw(samples, (0,)) if masks is None else masks
            values = self._parts.make(drawn, buffers)
        try:
            yield values
        finally:
            if buffers is not None:
                self._spare.append(buffers)

    def _find(self, bank: MaskBank, samples: range) -> Values | None:
        """What is kept of a chunk, or of a larger one that holds it."""
        for known, values in self._kept.of(bank).items():
            if known.start <= samples.start and samples.stop <= known.stop:
                return _part(values, known, samples)
        return None

    def _stretch(self, bank: MaskBank, samples: range) -> range:
        """What to gather for a chunk: the whole stretches that it lies in, if they may be kept.

        So what is kept is the same for 100 samples as for 10,000, and for any size of chunk.
        """
        start = samples.start - samples.start % _STRETCH
        stop = -(-samples.stop // _STRETCH) * _STRETCH
        wide = range(start, stop)
        return wide if self._may_keep(bank, wide) else samples

    def _may_keep(self, bank: MaskBank, samples: range) -> bool:
        """Whether samples are among the first ones, and seem to fit beside what is kept."""
        size = self.expected_bytes(len(samples))
        return samples.stop <= self.kept_samples and self._kept.fits(bank, size)

    def _gather_to_keep(
        self, bank: MaskBank, samples: range, wide: range
    ) -> tuple[Values, Values | None]:
        """A part of what is gathered for more; and buffers, if that turns out to be too much."""
        buffers: Values = {}
        values = self._parts.make(bank.draw(wide, (0,)), buffers)
        kept = self._kept.keep(bank, wide, values)
        return _part(values, wide, samples), None if kept or self._spare else buffers


def _part(values: Mapping[str, Tensor], held: range, wanted: range) -> Values:
    """Some samples of what is gathered for more."""
    part = slice(wanted.start - held.start, wanted.stop - held.start)
    return {name: value[part] for name, value in values.items()}
