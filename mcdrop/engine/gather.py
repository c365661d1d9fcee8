"""Gathered weights: for each sample of a chunk, the part of the network that its masks keep."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor

from mcdrop.engine.plan import KEPT_SAMPLES
from mcdrop.engine.table import Table, lay_out
from mcdrop.program.site import Site
from mcdrop.program.thinning import Thinning
from mcdrop.sampling import KEEP_BYTES, MaskBank, Sampling, Shapes

_STRETCH = 32  # samples that are gathered together to be kept
_MOST_KEPT = 4096  # samples
_SEEDS = 2  # whose gathers are kept: the default seed's, and the last other one
_Key = tuple[int, Sampling, Shapes]
_Values = dict[str, Tensor]


class Gathers:
    """Gathers what a thinned tail reads of its weights, and keeps it for a seed's first samples.

    It depends on neither rows nor inputs, so requests share it. Gathers of the first 128 samples,
    or of as many as take 8 MiB, are kept as long as they stay within a limit. All others are
    written into the same buffers again and again: memory does not grow with the number of samples,
    and memory fresh from the system costs more time than gathering does.

    Args:
        thinning: says what to gather.
        weights: by name, on the device.
        sites: the sites, in the order of the banks'.
        limit: bytes that may be kept.
    """

    def __init__(
        self,
        thinning: Thinning,
        weights: Mapping[str, Tensor],
        sites: Sequence[Site],
        limit: int,
    ) -> None:
        self._thinning = thinning
        self._weights = weights
        self._sites = {s.mask: (i, s) for i, s in enumerate(sites) if s.mask in thinning.thinned}
        self._limit = limit
        self._kept: OrderedDict[_Key, dict[range, _Values]] = OrderedDict()
        self._buffers: _Values = {}
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
        return sum(_bytes(values) for chunks in self._kept.values() for values in chunks.values())

    def expected_bytes(self, samples: int) -> int:
        """About how much so many samples take."""
        zeroed = self._thinning.zeroed
        sizes = {m: _expected(site, m in zeroed) for m, (_, site) in self._sites.items()}
        numbers = sum(8 * sizes[mask] for mask in self._thinning.taken.values())
        return samples * (numbers + self._part_bytes(sizes))

    def forget(self) -> None:
        """Give up what is kept, and the memory to gather into."""
        with self._lock:
            self._kept.clear()
            self._buffers = {}

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
        with self._lock:
            values = self._find(bank, samples)
            buffers: _Values | None = None
            if values is None:
                wide = self._stretch(bank, samples)
                values, buffers = self._make(bank, wide, masks if wide == samples else None)
                values = _part(values, wide, samples)
        try:
            yield values
        finally:
            if buffers is not None:
                self._buffers = buffers

    @cached_property
    def _tables(self) -> tuple[Table, ...]:
        gathered = self._thinning.gathered
        return tuple(lay_out(part, self._weights[part.weight]) for part in gathered)

    def _find(self, bank: MaskBank, samples: range) -> _Values | None:
        """What is kept of a chunk, or of a larger one that holds it."""
        key = _key(bank)
        for known, values in self._kept.get(key, {}).items():
            if known.start <= samples.start and samples.stop <= known.stop:
                self._kept.move_to_end(key)
                return _part(values, known, samples)
        return None

    def _stretch(self, bank: MaskBank, samples: range) -> range:
        """What to gather for a chunk: the whole stretches that it lies in, if they may be kept.

        So what is kept is the same for 100 samples as for 10,000, and for any size of chunk.
        """
        if samples.stop > self.kept_samples:
            return samples
        start = samples.start - samples.start % _STRETCH
        stop = -(-samples.stop // _STRETCH) * _STRETCH
        held = sum(map(_bytes, self._kept.get(_key(bank), {}).values()))
        fits = held + self.expected_bytes(stop - start) <= self._limit
        return range(start, stop) if fits else samples

    @torch.no_grad()
    def _make(
        self, bank: MaskBank, samples: range, drawn: Sequence[Tensor] | None
    ) -> tuple[_Values, _Values | None]:
        """Gather a chunk: what it holds, and the buffers to use again if it is not kept."""
        drawn = bank.draw(samples, (0,)) if drawn is None else drawn
        masks = {mask: drawn[i] for mask, (i, _) in self._sites.items()}
        units = _kept_units(masks, self._thinning.zeroed)
        sizes = {mask: kept.shape[1] for mask, kept in units.items()}
        values = {
            # a number behind the last unit stands for none; any unit will do, as zero weighs it
            name: units[mask].clamp(max=math.prod(drawn[self._sites[mask][0]].shape[1:]) - 1)
            for name, mask in self._thinning.taken.items()
        }
        size = len(samples) * self._part_bytes(sizes) + _bytes(values)
        keep = samples.stop <= self.kept_samples and self._make_room(_key(bank), size)
        buffers, self._buffers = ({}, self._buffers) if keep else (self._buffers, {})
        for table in self._tables:
            part = table.part
            shape = (len(samples), *part.shape(self._weights[part.weight].shape, sizes))
            values[part.name] = _buffer(buffers, table, math.prod(shape)).view(shape)
            table.gather(units, values[part.name])
        if keep:
            self._kept.setdefault(_key(bank), {})[samples] = values
        return values, None if keep else buffers

    def _part_bytes(self, sizes: Mapping[str, int]) -> int:
        """Bytes of one sample's weights, where each mask keeps so many units."""
        total = 0
        for part in self._thinning.gathered:
            weight = self._weights[part.weight]
            total += math.prod(part.shape(weight.shape, sizes)) * weight.element_size()
        return total

    def _make_room(self, key: _Key, size: int) -> bool:
        """Whether so many bytes more may be kept; older seeds make way."""
        chunks = self._kept.get(key, {})
        if sum(map(_bytes, chunks.values())) + size > self._limit:
            return False
        if key in self._kept:
            self._kept.move_to_end(key)
        others = len(self._kept) - (key in self._kept)
        while others and (others >= _SEEDS or self.kept_bytes + size > self._limit):
            self._kept.popitem(last=False)
            others -= 1
        return True


def _part(values: Mapping[str, Tensor], held: range, wanted: range) -> _Values:
    """Some samples of what is gathered for more."""
    part = slice(wanted.start - held.start, wanted.stop - held.start)
    return {name: value[part] for name, value in values.items()}


def _key(bank: MaskBank) -> _Key:
    return bank.stream.seed, bank.sampling, bank.shapes


def _kept_units(masks: Mapping[str, Tensor], zeroed: frozenset[str]) -> dict[str, Tensor]:
    """Numbers of the units that each sample keeps, in order.

    Args:
        masks: `[S, 1, ..., C, ...]` by name, zero for what is dropped.
        zeroed: those that leave out nothing: C stands in the place of what is dropped.

    Returns:
        int64 `[S, K]`: K is the most that a sample keeps, and at least 1; C stands for none.
    """
    kept = {name: mask.flatten(1) != 0 for name, mask in masks.items()}
    thinned = [name for name in kept if name not in zeroed]
    most = [kept[name].sum(1).max() for name in thinned]
    sizes = dict(zip(thinned, torch.stack(most).tolist() if most else (), strict=True))  # one sync
    units = {}
    for name, mask in kept.items():
        samples, count = mask.shape
        numbers = torch.arange(count, device=mask.device).expand(samples, count)
        if name in zeroed:
            units[name] = torch.where(mask, numbers, count)
            continue
        size = max(sizes[name], 1)
        # what is dropped is written to a last place of no interest
        place = torch.where(mask, mask.cumsum(1) - 1, size)
        padded = torch.full((samples, size + 1), count, device=mask.device)
        units[name] = padded.scatter_(1, place, numbers)[:, :size]
    return units


def _expected(site: Site, zeroed: bool) -> int:
    """About the most units that some tens of samples keep: the mean and two deviations."""
    units, p = math.prod(size or 1 for size in site.shape), site.law.p
    most = math.ceil(units * (1 - p) + 2 * math.sqrt(units * p * (1 - p)))
    return units if zeroed else min(units, most)


def _bytes(values: Mapping[str, Tensor]) -> int:
    return sum(value.nbytes for value in values.values())


def _buffer(buffers: _Values, table: Table, size: int) -> Tensor:
    """The first `size` elements of a buffer of this name, made anew if it is too small."""
    name = table.part.name
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = table.blocks.new_empty(size)
    return buffers[name][:size]
