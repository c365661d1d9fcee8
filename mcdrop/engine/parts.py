"""Parts of weights: what a sample's masks keep of each, gathered for one sample or for many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from mcdrop.engine.table import Table, lay_out
from mcdrop.program.site import Site
from mcdrop.program.thinning import Thinning

Values = dict[str, Tensor]


class Parts:
    """Makes the gathered inputs of a thinned tail.

    Args:
        thinning: says what to gather.
        weights: by name, on the device.
        sites: the sites, in the order of the banks'.
    """

    def __init__(
        self, thinning: Thinning, weights: Mapping[str, Tensor], sites: Sequence[Site]
    ) -> None:
        self._thinning = thinning
        self._weights = weights
        self._sites = {s.mask: (i, s) for i, s in enumerate(sites) if s.mask in thinning.thinned}

    @torch.no_grad()
    def make(self, drawn: Sequence[Tensor], buffers: Values, multiple: int = 1) -> Values:
        """Gather for some samples: `[S, ...]` by name.

        Where some of them keep fewer units than others, what stands in the place of the rest
        weighs zero.

        Args:
            drawn: their masks, in the order of the sites, `[S, 1, ...]`.
            buffers: memory to gather into, by name; what is missing is added.
            multiple: of what as many units are kept, those that weigh zero among them.
        """
        masks = {mask: drawn[i] for mask, (i, _) in self._sites.items()}
        units = _kept_units(masks, self._thinning.zeroed, multiple)
        sizes = {mask: kept.shape[1] for mask, kept in units.items()}
        values = {
            # a number behind the last unit stands for none; any unit will do, as zero weighs it
            name: units[mask].clamp(max=math.prod(masks[mask].shape[1:]) - 1)
            for name, mask in self._thinning.taken.items()
        }
        samples = len(drawn[0])
        for table in self._tables:
            part = table.part
            shape = (samples, *part.shape(self._weights[part.weight].shape, sizes))
            values[part.name] = _buffer(buffers, table, math.prod(shape)).view(shape)
            table.gather(units, values[part.name])
        return values

    def expected_bytes(self, samples: int) -> int:
        """About how much so many samples take."""
        zeroed = self._thinning.zeroed
        sizes = {m: _expected(site, m in zeroed) for m, (_, site) in self._sites.items()}
        total = sum(8 * sizes[mask] for mask in self._thinning.taken.values())
        for part in self._thinning.gathered:
            weight = self._weights[part.weight]
            total += math.prod(part.shape(weight.shape, sizes)) * weight.element_size()
        return samples * total

    @cached_property
    def _tables(self) -> tuple[Table, ...]:
        gathered = self._thinning.gathered
        return tuple(lay_out(part, self._weights[part.weight]) for part in gathered)


def bytes_of(values: Mapping[str, Tensor]) -> int:
    """How much tensors take."""
    return sum(value.nbytes for value in values.values())


def _kept_units(
    masks: Mapping[str, Tensor], zeroed: frozenset[str], multiple: int
) -> dict[str, Tensor]:
    """Numbers of the units that each sample keeps, in order.

    Args:
        masks: `[S, 1, ..., C, ...]` by name, zero for what is dropped.
        zeroed: those that leave out nothing: C stands in the place of what is dropped.
        multiple: of what K is to be.

    Returns:
        int64 `[S, K]`: K is the most that a sample keeps, or more, and at least 1; C stands for
        none.
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
        size = -(-max(sizes[name], 1) // multiple) * multiple
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


def _buffer(buffers: Values, table: Table, size: int) -> Tensor:
    """The first `size` elements of a buffer of this name, made anew if it is too small."""
    name = table.part.name
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = table.blocks.new_empty(size)
    return buffers[name][:size]
