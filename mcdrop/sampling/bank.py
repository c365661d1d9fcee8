"""The mask bank: the masks of all samples for every site, made when asked for and kept if small."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mcdrop.program.site import Site
from mcdrop.sampling import levels, patterns
from mcdrop.sampling.laws import noise
from mcdrop.sampling.patterns import BLOCK
from mcdrop.sampling.stream import MaskStream, together

Masks = Literal["shared", "independent"]
Sampling = Literal["balanced", "iid"]
Shapes = tuple[tuple[int, ...], ...]
_Key = tuple[int, ...]

# Patterns and masks of the first samples are kept up to so many bytes: most predictions ask for
# those, and memory must not grow with the number of samples.
KEEP_BYTES = 8 << 20
_ALIGNED = 64  # bytes
_SEEDS = 2  # banks kept by an engine: the default seed's, and the last other one
_Begun = tuple[range, list[range], Tensor]
_SHARED = [range(1)]  # the one row of masks that all rows share
_BITS = np.left_shift(1, np.arange(BLOCK)).astype(np.uint16).view(np.int16)


class MaskBank:
    """Masks of all samples of one seed.

    Args:
        seed: of the stream that the words come from.
        sites: the sites, in the order of a program's mask inputs.
        shapes: shape of each site's mask, the batch taken out.
        masks: `"shared"`, one mask per sample for all rows, or `"independent"`, one for each row.
        sampling: `"balanced"`, stratified for each unit in blocks of 16 samples, or `"iid"`.
        device: where masks are put.
        keep_bytes: how much may be kept for the next time.

    Raises:
        InputError: the seed is out of range.
    """

    def __init__(
        self,
        seed: int,
        sites: tuple[Site, ...],
        shapes: Shapes,
        *,
        masks: Masks,
        sampling: Sampling,
        device: torch.device,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self.stream = MaskStream(seed)
        self.sites = sites
        self.shapes = shapes
        self.masks: Masks = masks
        self.sampling: Sampling = sampling
        self.device = device
        self.kept_bytes = 0
        self._most = keep_bytes
        self._made: dict[_Key, Tensor] = {}
        self._drawn: dict[_Key, Tensor] = {}
        self._begun: dict[int, _Begun] = {}
        self._room: Tensor | None = None
        self._lock = Lock()
        drops = [site.law.kind == "bernoulli" for site in sites]
        words = [math.prod(s) * (1 if d else BLOCK) for s, d in zip(shapes, drops, strict=True)]
        self._together = [together(count) for count in words]
        self._bits = torch.from_numpy(_BITS).to(device)

    def draw(self, samples: range, rows: Sequence[int]) -> list[Tensor]:
        """Masks of neighbouring samples: for each site float32 `[S, R, *shape]`.

        Args:
            samples: numbers of the samples.
            rows: numbers of the rows in the caller's batch; the key of each row's independent mask.

        Returns:
            R = 1 for shared masks and for sites that hold no rows, else R = B. Not to be written
            to: masks are kept and handed out again.
        """
        return [self._site(position, samples, rows) for position in range(len(self.sites))]

    def _site(self, position: int, samples: range, rows: Sequence[int]) -> Tensor:
        site = self.sites[position]
        own = self.masks == "independent" and site.layout is not None
        if own:
            return self._lay(position, samples, list(_runs(rows)), 1)
        key = (position, samples.start, samples.stop)
        if key in self._drawn:
            return self._drawn[key]
        mask = self._lay(position, samples, _SHARED, self._together[position])
        return self._keep(self._drawn, key, mask)

    def _lay(self, position: int, samples: range, runs: list[range], together: int) -> Tensor:
        """Masks `[S, R, *shape]`, put together from blocks, so many of which are made together."""
        site, shape = self.sites[position], self.shapes[position]
        drops = site.law.kind == "bernoulli"
        size = (len(samples), sum(map(len, runs)), math.prod(shape))
        out = torch.empty(size, dtype=torch.float32, device=self.device)
        span = together * BLOCK
        for start in range(samples.start - samples.start % span, samples.stop, span):
            wanted = range(max(samples.start, start), min(samples.stop, start + span))
            inside = slice(wanted.start - start, wanted.stop - start)
            blocks = range(start // BLOCK, start // BLOCK + together)
            made = self._blocks(position, blocks, runs, ends=wanted.stop == start + span)
            place = out[wanted.start - samples.start : wanted.stop - samples.start]
            if drops:
                torch.eq(self._drops(made, inside), 0, out=place)
            else:
                place.copy_(made.flatten(0, 1)[inside])
        if drops and site.law.scale != 1.0:
            out.mul_(site.law.scale)
        return out.reshape(*size[:2], *shape)

    def _drops(self, made: Tensor, samples: slice) -> Tensor:
        """What some samples drop, by the patterns of their blocks: int16 `[S, R, units]`, not 0."""
        first, last = samples.start // BLOCK, -(-samples.stop // BLOCK)
        if last - first == 1:
            inside = slice(samples.start - first * BLOCK, samples.stop - first * BLOCK)
            return made[first] & self._bits[inside, None, None]
        drops = made[first:last, None] & self._bits[:, None, None]
        return drops.flatten(0, 1)[samples.start - first * BLOCK : samples.stop - first * BLOCK]

    def _blocks(self, position: int, blocks: range, runs: list[range], *, ends: bool) -> Tensor:
        """Patterns `[blocks, R, units]`, or noise `[blocks, 16, R, units]`.

        Independent masks are too many to keep, but for the block that a site is in the middle of.
        """
        shared = runs is _SHARED
        key = (position, blocks.start)
        if shared and key in self._made:
            return self._made[key]
        begun = None if shared else self._begun.pop(position, None)
        if begun is not None and begun[:2] == (blocks, runs):
            if not ends:
                self._begun[position] = begun
            return begun[2]
        parts = [self._make(position, blocks, run) for run in runs]
        made = _to(parts[0] if len(parts) == 1 else torch.cat(parts, -2), self.device)
        if shared:
            return self._keep(self._made, key, made)
        if not ends:
            self._begun[position] = (blocks, runs, made)
        return made

    def _make(self, position: int, blocks: range, rows: range) -> Tensor:
        site, units = self.sites[position], math.prod(self.shapes[position])
        even = self.sampling == "balanced"
        if site.law.kind == "bernoulli":
            draw = patterns.balanced if even else patterns.independent
            drawn = draw(self.stream, site.index, blocks, rows, units, site.law.p)
            return torch.from_numpy(drawn.view(np.int16))
        spread = levels.balanced if even else levels.independent
        return noise(site.law, spread(self.stream, site.index, blocks, rows, units))

    def _keep(self, kept: dict[_Key, Tensor], key: _Key, value: Tensor) -> Tensor:
        """The value, kept if there is room: in memory taken at once, or pieces would lie scattered.

        Among the large tensors that come and go beside them they would leave holes of tens of MiB.
        """
        size = -(-value.nbytes // _ALIGNED) * _ALIGNED
        with self._lock:
            start = self.kept_bytes
            if start + size > self._most:
                return value
            self.kept_bytes += size
            if self._room is None:
                self._room = torch.empty(self._most, dtype=torch.uint8, device=self.device)
        place = self._room[start : start + value.nbytes].view(value.dtype).view(value.shape)
        kept[key] = place.copy_(value)
        return place


class Banks:
    """The banks of the last seeds and shapes, so that requests share them.

    Args:
        sites: as for `MaskBank`.
        masks: as for `MaskBank`.
        sampling: as for `MaskBank`.
        device: as for `MaskBank`.
    """

    def __init__(
        self, sites: tuple[Site, ...], *, masks: Masks, sampling: Sampling, device: torch.device
    ) -> None:
        self._sites = sites
        self._masks: Masks = masks
        self._sampling: Sampling = sampling
        self._device = device
        self._banks: OrderedDict[tuple[int, Shapes], MaskBank] = OrderedDict()
        self._lock = Lock()

    def bank(self, seed: int, shapes: Shapes) -> MaskBank:
        """The bank of a seed for masks of these shapes."""
        key = (seed, shapes)
        with self._lock:
            if key not in self._banks:
                while len(self._banks) >= _SEEDS:
                    self._banks.popitem(last=False)
                self._banks[key] = MaskBank(
                    seed,
                    self._sites,
                    shapes,
                    masks=self._masks,
                    sampling=self._sampling,
                    device=self._device,
                )
            self._banks.move_to_end(key)
            return self._banks[key]


def _runs(rows: Sequence[int]) -> Iterator[range]:
    """Stretches of neighbouring numbers."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != rows[end - 1] + 1:
            yield range(rows[start], rows[end - 1] + 1)
            start = end


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; the copy runs beside the computation, from pinned memory."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
