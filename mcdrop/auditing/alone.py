"""Each site alone: does the mean over its samples agree with the pass in which it is off?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcdrop.auditing.shifts import independent_bank, parts
from mcdrop.engine import LoopEngine, require_variance
from mcdrop.errors import NoStochasticSiteError
from mcdrop.program.program import Program
from mcdrop.program.site import Site

_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Alone:
    """What a site does to the outputs when no other is on; see `AuditedSite`."""

    matters: bool
    difference: float | None = None
    standard_error: float | None = None
    spread: float | None = None


def alone(
    program: Program, site: Site, inputs: Mapping[str, Tensor], samples: int, seed: int
) -> Alone:
    r"""Compare the mean over samples of one site with the deterministic output y.

    With :math:`\bar y` the mean of S samples and :math:`s^2` their variance, element by element,

    .. math:: \text{difference} = \frac{\lVert \bar y - y \rVert}{n}, \quad
              \text{error} = \frac{1}{n} \sqrt{\textstyle\sum s^2 / S}, \quad
              n = \max\Bigl(\lVert y \rVert, \sqrt{\textstyle\sum s^2}\Bigr)

    over all elements and rows of an output. Samples are balanced, so the error is an upper one.

    Args:
        program: with the site enabled.
        site: the one to keep on.
        inputs: rows by name, on the program's device.
        samples: how many.
        seed: of the masks.
    """
    only = replace(
        program, sites=tuple(replace(s, enabled=s.index == site.index) for s in program.sites)
    )
    reached = only.stochastic.reached_from([site.mask])
    if not any(name in reached for _, name in only.stochastic.outputs):
        return Alone(matters=False)
    sums = _sampled(only, inputs, samples, seed)
    measured = [one for one in sums if one.size > 0.0]
    if not measured:
        return Alone(matters=any(one.changes for one in sums) or _boldly(only, inputs))
    worst = max(measured, key=lambda one: one.difference)
    # what drops everything is the same in every sample, and yet not what it is with the site off
    matters = any(one.changes for one in sums) or worst.difference > _ROUNDING
    return Alone(
        matters or _boldly(only, inputs), worst.difference, worst.error(samples), worst.spread
    )


def _sampled(only: Program, inputs: Mapping[str, Tensor], samples: int, seed: int) -> list[_Sums]:
    engine = LoopEngine(only)
    totals = [_Sums() for _ in only.outputs]
    for rows, part in parts(inputs):
        with torch.no_grad():
            expected = list(only.run_deterministic(part).values())
            bank = independent_bank(only, part, seed)
            run = engine.resume(only.run_trunk(part), bank, rows)
            passes = (run.samples(s, s + 1) for s in range(samples))
            deviations = [_Deviations(output) for output in expected]
            for outputs in passes:
                for deviation, output in zip(deviations, outputs, strict=True):
                    deviation.add(output[0])
        totals = [
            total.plus(deviation, samples)
            for total, deviation in zip(totals, deviations, strict=True)
        ]
    return totals


def _boldly(only: Program, inputs: Mapping[str, Tensor]) -> bool:
    """Whether anything changes at a bold rate, where the site's own may be too small to show."""
    try:
        require_variance(only, inputs)
    except NoStochasticSiteError:
        return False
    return True


class _Deviations:
    """Sums of an output's deviations from what it is with the site off: `[B, ...]` each.

    Labels and other whole numbers have no mean; of them it is only seen whether they change.
    """

    def __init__(self, expected: Tensor) -> None:
        self.changes = False
        wide = expected if expected.is_floating_point() else expected.new_zeros(0)
        self.wide = wide.double()
        self.first = torch.zeros_like(self.wide)
        self.second = torch.zeros_like(self.wide)
        self._sample: Tensor | None = None

    def add(self, output: Tensor) -> None:
        """Take in a sample."""
        if self._sample is None:
            self._sample = output
        self.changes = self.changes or not torch.equal(output, self._sample)
        if output.is_floating_point():
            # where a mask makes minus infinity of both, nothing deviates
            apart = (output.double() - self.wide).nan_to_num(0.0, 0.0, 0.0)
            self.first += apart
            self.second += apart.square()


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of an output, over elements and rows: squares of deviation and output, and variances."""

    changes: bool = False
    deviation: float = 0.0
    variance: float = 0.0
    output: float = 0.0

    def plus(self, one: _Deviations, samples: int) -> _Sums:
        """Further rows taken in."""
        variance = (one.second - one.first.square() / samples).clamp_min(0.0) / (samples - 1)
        return _Sums(
            self.changes or one.changes,
            self.deviation + float((one.first / samples).square().sum()),
            self.variance + float(variance.sum()),
            self.output + float(one.wide.nan_to_num(0.0, 0.0, 0.0).square().sum()),
        )

    @property
    def size(self) -> float:
        """What differences are relative to."""
        return float(max(self.output, self.variance) ** 0.5)

    @property
    def difference(self) -> float:
        """Relative norm of the difference of the mean."""
        return float(self.deviation**0.5 / self.size)

    @property
    def spread(self) -> float:
        """Relative standard deviation of a sample."""
        return float(self.variance**0.5 / self.size)

    def error(self, samples: int) -> float:
        """Relative standard error of the mean."""
        return self.spread / float(samples**0.5)


def share(sites: Sequence[Site], samples: int, passes: int, fewest: int) -> tuple[int, int]:
    """How many sites are measured with how many samples each, within a number of passes.

    Example:
        >>> share([], 32, 1024, 16)
        (0, 32)
    """
    each = max(fewest, min(samples, passes // max(len(sites), 1)))
    return min(len(sites), passes // each), each
