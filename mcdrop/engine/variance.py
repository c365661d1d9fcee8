"""Do a program's samples vary at all?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mcdrop.engine.footprint import Footprints
from mcdrop.engine.loop import LoopEngine
from mcdrop.errors import NoStochasticSiteError
from mcdrop.program.program import Program
from mcdrop.program.site import Law, Site
from mcdrop.sampling import MaskBank

# Few samples at a bold rate, and at a mild one for outputs that a bold rate would leave at zero.
_RATES, _SAMPLES = (0.5, 0.1), 8
# What compares other noise with a rate of its own cannot be made bolder, only be waited for.
_PATIENCE = 512


def require_variance(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Raise unless samples on an example differ.

    Rates are taken as one half and one tenth, so that a small one is not mistaken for none; where
    noise that is not Bernoulli made no difference in few samples, more are taken.

    Args:
        program: with at least one enabled site.
        inputs: example rows by name, on the program's device.

    Raises:
        NoStochasticSiteError: all samples are the same.
    """
    samples: list[tuple[Tensor, ...]] = []
    for rate in _RATES:
        samples.append(_samples(program, inputs, rate, 0))
        if _vary(samples):
            return
    if any(site.law.kind != "bernoulli" for site in program.active):
        for first in range(_SAMPLES, _PATIENCE, _SAMPLES):
            samples.append(_samples(program, inputs, _RATES[-1], first))
            if _vary([samples[0], samples.pop()]):
                return
    names = ", ".join(repr(site.name) for site in program.active)
    raise NoStochasticSiteError(
        f"the model's sites ({names}) make no difference to its output on the example: every "
        "Monte Carlo sample would be the same. Is what they drop zero, or not used?"
    )


def _samples(
    program: Program, inputs: Mapping[str, Tensor], rate: float, first: int
) -> tuple[Tensor, ...]:
    """Some samples from the one with this number on, at another rate."""
    rows = range(len(next(iter(inputs.values()))))
    with torch.no_grad():
        bold = replace(program, sites=tuple(_at_rate(site, rate) for site in program.sites))
        bank = MaskBank(
            0,
            bold.active,
            Footprints(bold, "shared")(inputs).shapes,
            masks="shared",
            sampling="iid",
            device=program.device,
        )
        return LoopEngine(bold).open(inputs, bank, rows).samples(first, first + _SAMPLES)


def _vary(samples: Sequence[tuple[Tensor, ...]]) -> bool:
    return not all(_same(torch.cat(outputs)) for outputs in zip(*samples, strict=True))


def _same(samples: Tensor) -> bool:
    return all(torch.equal(sample, samples[0]) for sample in samples[1:])


def _at_rate(site: Site, rate: float) -> Site:
    if site.law.kind != "bernoulli" or site.p == 1.0:
        return site
    return replace(site, law=Law("bernoulli", rate, site.law.scale))
