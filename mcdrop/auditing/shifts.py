"""Variance shift: BatchNorms behind dropout, and how much more their input varies with it on.

In training a BatchNorm sees the variance that dropout adds and keeps it in its running statistics;
in evaluation with dropout off the variance is another one (Li et al. 2019, "Understanding the
disharmony between dropout and batch normalization by variance shift").
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mcdrop.auditing.report import VarianceShift
from mcdrop.engine import Footprints
from mcdrop.program.execute import Executable
from mcdrop.program.graph import Graph, Node, Ref
from mcdrop.program.program import Program
from mcdrop.sampling import MaskBank, Sampling

ROWS = 64  # run at a time, so that memory does not grow with the rows
_VARIES = 1e-9  # variance over mean square, below which rounding is all that varies


def behind_sites(program: Program) -> tuple[VarianceShift, ...]:
    """BatchNorms that enabled sites reach, on any way, not measured yet."""
    graph = program.stochastic
    reached = {site.name: graph.reached_from([site.mask]) for site in program.active}
    return tuple(
        VarianceShift(label, sites)
        for name, label in _norms(program.graph).items()
        if (sites := tuple(site for site, names in reached.items() if name in names))
    )


def _norms(graph: Graph) -> dict[str, str]:
    """BatchNorms of a captured graph: what each is called, by the name of its node."""
    found = [node for node in graph.nodes if _is_norm(node)]
    times = Counter(node.path for node in found)
    return {
        node.name: node.path if times[node.path] == 1 and node.path else f"{node.path}:{node.name}"
        for node in found
    }


def _is_norm(node: Node) -> bool:
    if node.op == "aten.batch_norm.default":
        return node.args[5] is False
    return node.op == "aten._native_batch_norm_legit_no_training.default"


def measured(
    program: Program,
    inputs: Mapping[str, Tensor],
    shifts: Sequence[VarianceShift],
    samples: int,
    seed: int,
) -> tuple[VarianceShift, ...]:
    r"""The shifts with their ratios, channel by channel of each BatchNorm's input x.

    .. math:: \frac{\mathrm{Var}_{b, l, s}\, x_{bcl}^{(s)}}{\mathrm{Var}_{b, l}\, \bar x_{bcl}}

    over rows b, places l and samples s, :math:`\bar x` being the value with every site off. Both
    are variances of these very rows (divided by their number). The standard error is that of the
    masks, and an upper one, as samples are balanced: rows are taken for given.

    Args:
        program: with enabled sites.
        inputs: rows by name, on the program's device.
        shifts: what `behind_sites` found.
        samples: how many passes.
        seed: of the masks.
    """
    named = {shift.norm for shift in shifts}
    norms = {name: norm for name, norm in _norms(program.graph).items() if norm in named}
    still = _Moments(_taps(program.deterministic, norms), samples=1)
    noisy = _Moments(_taps(program.stochastic, norms), samples=samples)
    deterministic = Executable(program.deterministic, program.device)
    stochastic = Executable(program.stochastic, program.device)
    weights = dict(program.weights)
    for rows, part in parts(inputs):
        with torch.no_grad():
            for name, value in part.items():  # with dropout off a BatchNorm may read the input
                still.read(name, value)
            deterministic({**weights, **part}, still)
            noisy.centres = still.centres
            bank = independent_bank(program, part, seed, "balanced")
            for sample in range(samples):
                masks = bank.draw(range(sample, sample + 1), rows)
                by_name = {s.mask: m[0] for s, m in zip(bank.sites, masks, strict=True)}
                noisy.sample = sample
                stochastic({**weights, **part, **by_name}, noisy)
    return tuple(_compared(shift, still, noisy) for shift in shifts)


def parts(inputs: Mapping[str, Tensor]) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """Rows to run at a time, with their numbers; never one alone, unless there is but one."""
    count = len(next(iter(inputs.values())))
    pieces = max(1, math.ceil(count / ROWS))
    for i in range(pieces):
        rows = range(count * i // pieces, count * (i + 1) // pieces)
        yield rows, {name: tensor[rows.start : rows.stop] for name, tensor in inputs.items()}


def independent_bank(
    program: Program, inputs: Mapping[str, Tensor], seed: int, sampling: Sampling
) -> MaskBank:
    """Masks as in training, each row with its own."""
    return MaskBank(
        seed,
        program.active,
        Footprints(program, "independent")(inputs).shapes,
        masks="independent",
        sampling=sampling,
        device=program.device,
    )


def _taps(graph: Graph, norms: Mapping[str, str]) -> dict[str, list[str]]:
    """Which values of a lowered graph are the input of which BatchNorms."""
    taps: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.name in norms:
            assert isinstance(node.args[0], Ref)
            taps.setdefault(node.args[0].name, []).append(norms[node.name])
    return taps


class _Moments:
    """Sums over rows and places of each channel, and of its square: an execution's observer."""

    def __init__(self, taps: Mapping[str, list[str]], samples: int) -> None:
        self.centres: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.sums: dict[str, Tensor] = {}  # [S, 2, C]
        self.sample = 0
        self._taps = taps
        self._samples = samples

    def step(self, node: Node, value: Any, dead: Sequence[str]) -> None:  # noqa: ARG002
        """Called after each node."""
        self.read(node.name, value)

    def read(self, name: str, value: Any) -> None:
        """Add a value if a BatchNorm reads it."""
        for norm in self._taps.get(name, ()):
            units = value.detach().double().movedim(1, 0).flatten(1)  # [C, B·L]
            self.centres.setdefault(norm, units.mean(1))
            if norm not in self.sums:
                self.sums[norm] = units.new_zeros(self._samples, 2, len(units))
            apart = units - self.centres[norm][:, None]
            self.sums[norm][self.sample] += torch.stack([apart.sum(1), apart.square().sum(1)])
            self.counts[norm] += apart.shape[1]

    def means(self, norm: str) -> tuple[Tensor, Tensor]:
        """First and second moments about the centres, each `[S, C]`."""
        sums = self.sums[norm] * (self._samples / self.counts[norm])
        return sums[:, 0], sums[:, 1]


def _compared(shift: VarianceShift, still: _Moments, noisy: _Moments) -> VarianceShift:
    if shift.norm not in still.sums or shift.norm not in noisy.sums:
        return shift  # one that runs in only one of the two ways
    (mean,), (square,) = still.means(shift.norm)
    plain = square - mean.square()
    size = plain + (mean + still.centres[shift.norm]).square()
    varies = plain > _VARIES * size
    if not varies.any():
        return shift
    means, squares = (moment[:, varies] for moment in noisy.means(shift.norm))
    centre = means.mean(0)
    each = squares - 2.0 * centre * means  # the variance is their mean, plus the centre's square
    ratios = (each.mean(0) + centre.square()) / plain[varies]
    errors = each.std(0) / (len(each) ** 0.5 * plain[varies])
    return replace(
        shift,
        channels=int(varies.sum()),
        ratio=float(ratios.quantile(0.5)),
        lowest=float(ratios.min()),
        highest=float(ratios.max()),
        standard_error=float(errors.quantile(0.5)),
    )
