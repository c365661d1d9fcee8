"""What a mask costs: nanoseconds for each element, beside torch's dropout.

Once for the patterns alone (random bits, as they are kept), and once for the float32 masks that a
tail multiplies by. Everything is made anew: no bank keeps anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.record import Record
from mcdrop.program.site import BatchLayout, Law, Site
from mcdrop.sampling import BLOCK, MaskBank, Sampling
from mcdrop.sampling import patterns as law_patterns
from mcdrop.sampling.stream import MaskStream, together

RATES = (0.001, 0.1, 0.5, 0.999)
_UNITS, _SAMPLES = 4096, 64
_CPU = torch.device("cpu")


def measure(repeats: int = 15) -> Record:
    """Each law at each rate, and torch's own, turn by turn; the medians."""
    x = torch.ones(_SAMPLES, 1, _UNITS)
    rows = []
    for p in RATES:
        ways: dict[str, Callable[[int], object]] = {
            "dropout": lambda _, p=p: F.dropout(x, p),
            "balanced_bits": _bits(law_patterns.balanced, p),
            "iid_bits": _bits(law_patterns.independent, p),
            "balanced_mask": _masks("balanced", p),
            "iid_mask": _masks("iid", p),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for seed in range(repeats + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way(seed)
                times[name].append(time.perf_counter() - start)
        nanoseconds = {
            f"{name}_ns": sorted(taken[1:])[repeats // 2] / x.numel() * 1e9
            for name, taken in times.items()
        }
        rows.append({"p": p, **nanoseconds})
    return {"units": _UNITS, "samples": _SAMPLES, "rates": rows}


def _bits(law: Callable[..., object], p: float) -> Callable[[int], None]:
    size = together(_UNITS)

    def make(seed: int) -> None:
        for block in range(0, _SAMPLES // BLOCK, size):
            law(MaskStream(seed), 0, range(block, block + size), range(1), _UNITS, p)

    return make


def _masks(sampling: Sampling, p: float) -> Callable[[int], object]:
    law = Law("bernoulli", p, 1.0 / (1.0 - p))
    site = Site("site", "dropout", p, (1, _UNITS), law, "node", 0, layout=BatchLayout(0))

    def make(seed: int) -> object:
        bank = MaskBank(
            seed,
            (site,),
            ((1, _UNITS),),
            masks="shared",
            sampling=sampling,
            device=_CPU,
            keep_bytes=0,
        )
        return bank.draw(range(_SAMPLES), (0,))

    return make
