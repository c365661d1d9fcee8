"""The mask bank: the masks of a range of samples, for every site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mcdrop.program.site import Site
from mcdrop.sampling.laws import draw
from mcdrop.sampling.stream import MaskStream

Masks = Literal["shared", "independent"]


@dataclass(frozen=True, slots=True)
class MaskBank:
    """Masks of all samples, made when asked for.

    Attributes:
        stream: where the words come from.
        sites: the sites, in the order of a program's mask inputs.
        shapes: shape of each site's mask, the batch taken out.
        masks: `"shared"`, one mask per sample for all rows, or `"independent"`, one for each row.
        device: where masks are put.
    """

    stream: MaskStream
    sites: tuple[Site, ...]
    shapes: tuple[tuple[int, ...], ...]
    masks: Masks
    device: torch.device

    def draw(self, samples: Sequence[int], rows: Sequence[int]) -> list[Tensor]:
        """Masks of some samples: for each site float32 `[S, R, *shape]`.

        Args:
            samples: numbers of the samples.
            rows: numbers of the rows in the caller's batch; the key of each row's independent mask.

        Returns:
            R = 1 for shared masks and for sites that hold no rows, else R = B.
        """
        return [
            self._site(site, shape, samples, rows)
            for site, shape in zip(self.sites, self.shapes, strict=True)
        ]

    def _site(
        self, site: Site, shape: tuple[int, ...], samples: Sequence[int], rows: Sequence[int]
    ) -> Tensor:
        own = self.masks == "independent" and site.layout is not None
        keys = rows if own else (0,)
        count = int(np.prod(shape, dtype=np.int64))
        words = np.empty((len(samples), len(keys), count), dtype=np.uint32)
        for s, sample in enumerate(samples):
            for r, row in enumerate(keys):
                words[s, r] = self.stream.words(site.index, sample, row, count)
        laid = draw(site.law, words).reshape(len(samples), len(keys), *shape)
        return laid.to(self.device, non_blocking=True)
