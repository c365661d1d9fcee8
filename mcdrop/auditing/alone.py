"""Each site alone: does the mean over its samples agree with the pass in which it is off?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcdrop.auditing.shifts import independent_bank, parts
from mcdrop.engine import LoopEngine, require_variance
from mcdrop.errors import NoStochasticSiteError
from mcdrop.program.program import Program
from mcdrop.program.site import Site

_ROUNDING = 1e-5
_ELEMENTS = 1 << 14  # of an output, all rows together, that are compared: evenly spread


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
    r"""Compare the mean over samples of one site with the output y without it.

    Of the deviations :math:`d_s = y_s - y`, all elements and rows of an output in one vector, and
    their covariance :math:`\Sigma`,

    .. math:: U = \frac{1}{S (S - 1)} \sum_{s \ne t} \langle d_s, d_t \rangle, \quad
              V = \frac{2 \operatorname{tr} \Sigma^2}{S (S - 1)}, \quad
              n = \max\bigl(\lVert y \rVert, \sqrt{\operatorname{tr} \Sigma}\bigr)

    U is without bias for the squared norm of the mean deviation, and V its variance where that is
    0. The difference is :math:`\sqrt{\max(U, 0)} / n`, its error :math:`V^{1/4} / n`: for one
    element alone, 1.2 standard errors of its mean.

    Where nothing differs, the difference of one normal element is beyond :math:`\sqrt{10}` errors
    in one case of 2000 with 64 samples, of 400 with 16 (tried out); of more elements more rarely.
    Samples are drawn independently: of balanced ones U would be too small.

    Args:
        program: with the site enabled.
        site: the one to keep on.
        inputs: rows by name, on the program's device.
        samples: S.
        seed: of the masks.
    """
    only = replace(
        program, sites=tuple(replace(s, enabled=s.index == site.index) for s in program.sites)
    )
    reached = only.stochastic.reached_from([site.mask])
    if not any(name in reached for _, name in only.stochastic.outputs):
        return Alone(matters=False)
    outputs = _sampled(only, inputs, samples, seed)
    changes = any(output.changes for output in outputs)
    compared = [one for output in outputs if (one := output.compared()) is not None]
    if not compared:
        return Alone(matters=changes or _boldly(only, inputs))
    difference, error, spread = max(compared)
    # what drops everything is the same in every sample, and yet not what it is with the site off
    matters = changes or difference > _ROUNDING or _boldly(only, inputs)
    return Alone(matters, difference, error, spread)


def _sampled(
    only: Program, inputs: Mapping[str, Tensor], samples: int, seed: int
) -> list[_Deviations]:
    engine = LoopEngine(only)
    count = len(next(iter(inputs.values())))
    found = [_Deviations(samples, _ELEMENTS // count) for _ in only.outputs]
    for rows, part in parts(inputs):
        with torch.no_grad():
            expected = only.run_deterministic(part)
            bank = independent_bank(only, part, seed, "iid")
            run = engine.resume(only.run_trunk(part), bank, rows)
            for one, output in zip(found, expected.values(), strict=True):
                one.begin(output)
            for sample in range(samples):
                passes = run.samples(sample, sample + 1)
                for one, output in zip(found, passes, strict=True):
                    one.add(sample, output[0])
    return found


def _boldly(only: Program, inputs: Mapping[str, Tensor]) -> bool:
    """Whether anything changes at a bold rate, where the site's own may be too small to show."""
    try:
        require_variance(only, inputs)
    except NoStochasticSiteError:
        return False
    return True


class _Deviations:
    """How samples of an output deviate from what it is with the site off, part by part of the rows.

    Args:
        samples: how many there will be.
        each: elements of a row that are kept, at most, but for one.
    """

    def __init__(self, samples: int, each: int) -> None:
        self.changes = False
        self._samples = samples
        self._each = max(each, 1)
        self._expected: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._first: Tensor | None = None

    def begin(self, expected: Tensor) -> None:
        """Take in further rows, with the site off."""
        self._first = None
        if expected.is_floating_point():  # labels and other whole numbers have no mean
            self._expected.append(self._thinned(expected))
            kept = self._expected[-1]
            self._kept.append(kept.new_zeros(self._samples, len(kept)))

    def add(self, sample: int, output: Tensor) -> None:
        """Take in a sample of those rows."""
        if self._first is None:
            self._first = output
        self.changes = self.changes or not torch.equal(output, self._first)
        if output.is_floating_point():
            # where a mask makes minus infinity of both, nothing deviates
            apart = self._thinned(output) - self._expected[-1]
            self._kept[-1][sample] = apart.nan_to_num(0.0, 0.0, 0.0)

    def _thinned(self, output: Tensor) -> Tensor:
        """Elements of each row, evenly spread, in a vector."""
        flat = output.detach().double().reshape(len(output) if output.ndim else 1, -1)
        step = -(-flat.shape[1] // self._each)
        return flat[:, ::step].flatten()

    def compared(self) -> tuple[float, float, float] | None:
        """Relative difference of the mean, its error, and spread; `None` where all is zero."""
        if not self._kept:
            return None
        deviations = torch.cat(self._kept, 1)  # [S, elements]
        output = torch.cat(self._expected).nan_to_num(0.0, 0.0, 0.0)
        pairs = self._samples * (self._samples - 1)
        products = deviations @ deviations.T
        centred = deviations - deviations.mean(0)
        covered = centred @ centred.T
        square = (products.sum() - products.trace()) / pairs
        error = 2.0 * (covered.square().sum() - covered.diagonal().square().sum()) / pairs**2
        variance = covered.trace() / (self._samples - 1)
        size = float(torch.maximum(output.square().sum(), variance).sqrt())
        if size == 0.0:
            return None
        root = float(square.clamp_min(0.0).sqrt())
        return root / size, float(error) ** 0.25 / size, float(variance.sqrt()) / size


def share(sites: int, samples: int, passes: int, fewest: int) -> tuple[int, int]:
    """How many sites are measured with how many samples each, within a number of passes.

    Example:
        >>> share(4, 64, 1024, 16), share(40, 64, 1024, 16), share(500, 64, 1024, 16)
        ((4, 64), (40, 25), (64, 16))
    """
    each = max(fewest, min(samples, passes // max(sites, 1)))
    return min(sites, passes // each), each
