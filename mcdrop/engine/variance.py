"""Do a program's samples vary at all?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mcdrop.engine.loop import LoopEngine
from mcdrop.errors import NoStochasticSiteError
from mcdrop.program.program import Program
from mcdrop.program.site import Law, Site

_SAMPLES = 4


def require_variance(program: Program, inputs: Mapping[str, Tensor]) -> None:
    """Raise unless samples on an example differ.

    Every rate is taken as one half, so that a small one is not mistaken for none.

    Args:
        program: with at least one enabled site.
        inputs: example rows by name, on the program's device.

    Raises:
        NoStochasticSiteError: all samples are the same.
    """
    bold = replace(program, sites=tuple(_bold(site) for site in program.sites))
    with torch.no_grad():
        run = LoopEngine(bold, "shared").open(inputs, 0, range(len(next(iter(inputs.values())))))
        outputs = run.samples(0, _SAMPLES)
    if all(torch.equal(sample, output[0]) for output in outputs for sample in output[1:]):
        names = ", ".join(repr(site.name) for site in program.active)
        raise NoStochasticSiteError(
            f"the model's sites ({names}) make no difference to its output on the example: every "
            "Monte Carlo sample would be the same. Is what they drop zero, or not used?"
        )


def _bold(site: Site) -> Site:
    if site.law.kind != "bernoulli" or site.p == 1.0:
        return site
    return replace(site, law=Law("bernoulli", 0.5, site.law.scale))
