"""Do a program's samples vary at all?"""

from __future__ import annotations

from collections.abc import Mapping
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


def require_variance(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Raise unless samples on an example differ.

    Rates are taken as one half and one tenth, so that a small one is not mistaken for none.

    Args:
        program: with at least one enabled site.
        inputs: example rows by name, on the program's device.

    Raises:
        NoStochasticSiteError: all samples are the same.
    """
    rows = range(len(next(iter(inputs.values()))))
    samples: list[tuple[Tensor, ...]] = []
    for rate in _RATES:
        sites = tuple(_at_rate(site, rate) for site in program.sites)
        with torch.no_grad():
            bold = replace(program, sites=sites)
            bank = MaskBank(
                0,
                bold.active,
                Footprints(bold, "shared")(inputs).shapes,
                masks="shared",
                sampling="iid",
                device=program.device,
            )
            samples.append(LoopEngine(bold).open(inputs, bank, rows).samples(0, _SAMPLES))
    if all(_same(torch.cat(outputs)) for outputs in zip(*samples, strict=True)):
        names = ", ".join(repr(site.name) for site in program.active)
        raise NoStochasticSiteError(
            f"the model's sites ({names}) make no difference to its output on the example: every "
            "Monte Carlo sample would be the same. Is what they drop zero, or not used?"
        )


def _same(samples: Tensor) -> bool:
    return all(torch.equal(sample, samples[0]) for sample in samples[1:])


def _at_rate(site: Site, rate: float) -> Site:
    if site.law.kind != "bernoulli" or site.p == 1.0:
        return site
    return replace(site, law=Law("bernoulli", rate, site.law.scale))
