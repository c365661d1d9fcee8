"""The audit of a model: captured, looked at, and sampled a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from mcdrop.arguments import integer
from mcdrop.auditing import findings
from mcdrop.auditing.advice import advised
from mcdrop.auditing.alone import alone, share
from mcdrop.auditing.report import Audit, AuditedSite, Finding, VarianceShift
from mcdrop.auditing.shifts import behind_sites, measured
from mcdrop.capture import capture
from mcdrop.capture.example import Ranges, make_example
from mcdrop.engine import require_variance
from mcdrop.errors import NoStochasticSiteError
from mcdrop.program.places import places
from mcdrop.program.program import Program
from mcdrop.program.schema import checked
from mcdrop.schedules import rates

FEWEST = 16  # samples: a balanced block
PASSES = 1024  # with one site on; together, whatever the number of sites


def audit(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    *,
    sites: str | Sequence[str] | None = None,
    dynamic_axes: Ranges | None = None,
    rows: Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None = None,
    measure: bool = True,
    samples: int = 64,
    seed: int = 0,
) -> Audit:
    """List a model's stochastic sites with place and rate, and measure what they do.

    - Rates beside what is customary: 0.1 to 0.2 for inputs, 0.3 to 0.5 for hidden layers (0.1 to
      0.5 where there is attention), 0 for outputs. For information: a customary rate need not be
      the best. Nothing is said of weights, attention, branches, heads, blocks, alpha dropout, and
      of rates that training finds.
    - BatchNorms behind dropout: how much more their input varies with dropout on, measured. A
      warning where that is off by more than 10%, and by four standard errors.
    - Each site alone: how far the mean over samples is from the output with it off. Told from 5%
      on, a warning from 25%, and only beyond what is chance in one site of 2000 with 64 samples,
      of 400 with 16.
    - Sites that make no difference; an error where none of them does, or where there are none: it
      names the layers whose rate is 0.

    All this is measured on the rows of the example. Pass real ones by `rows`, some dozens, for
    figures that mean something: an example of zeros often has no variance of its own.

    Args:
        model: any module that `capture` takes.
        example_inputs: as for `capture`.
        sites: as for `capture`: the others are left off.
        dynamic_axes: as for `capture`.
        rows: inputs to measure on, of the form of the example; the example by default.
        measure: `False` only reads the graph.
        samples: passes to measure with, at least 16. Each site alone takes fewer where there are
            more than 1024 in all (64 of 16 sites), and sites beyond the 64th are not measured.
        seed: of the masks; the same one gives the same audit.

    Raises:
        CaptureError: the module cannot be captured.
        InputError: an argument does not fit.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        >>> report = audit(net, torch.zeros(1, 4))
        >>> [(site.name, site.place, site.p, site.advised) for site in report.sites]
        [('2', 'hidden', 0.2, (0.3, 0.5))]
        >>> [finding.message for finding in report.findings]
        ['p = 0.2 at a hidden layer; 0.3 to 0.5 is customary']
    """
    integer("samples", samples, FEWEST)
    integer("seed", seed, 0, 2**63 - 1)
    program = capture(model, example_inputs, sites=sites, dynamic_axes=dynamic_axes)
    read = _sites(model, program)
    shifts = behind_sites(program)
    silent = [rate.name for rate in rates(model) if rate.value == 0.0]
    noted = list(findings.of_program(program, silent))
    count = 0
    if measure and program.active and not any(finding.level == "error" for finding in noted):
        wanted = example_inputs if rows is None else rows
        tensors = make_example(model, wanted, dynamic_axes).tensors
        inputs = checked(program.inputs, tensors, program.device)
        count = _count(wanted)
        read, shifts, further = _measured(program, inputs, read, shifts, samples, seed)
        noted += further
    noted += findings.of_rates(read)
    noted += findings.of_shifts(shifts, count)
    noted += findings.of_samples(read)
    told = tuple(sorted(noted, key=lambda finding: _ORDER.index(finding.level)))
    return Audit(type(model).__name__, read, shifts, told, count, samples if count else 0, seed)


_ORDER = ("error", "warning", "info")


def _count(rows: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> int:
    """How many rows were given: one alone is doubled before it is run."""
    if isinstance(rows, Tensor):
        return len(rows)
    return len(next(iter(rows.values() if isinstance(rows, Mapping) else rows)))


def _sites(model: nn.Module, program: Program) -> tuple[AuditedSite, ...]:
    modules = dict(model.named_modules())
    read = []
    for site, place in zip(program.sites, places(program.graph, program.sites), strict=True):
        layer = type(modules.get(program.graph[site.node].path, model)).__name__
        usual = advised(program.graph, site, place, layer)
        about = (site.name, site.kind, layer, place, site.p, usual, site.shape, site.enabled)
        read.append(AuditedSite(*about))
    return tuple(read)


def _measured(
    program: Program,
    inputs: Mapping[str, Tensor],
    read: tuple[AuditedSite, ...],
    shifts: tuple[VarianceShift, ...],
    samples: int,
    seed: int,
) -> tuple[tuple[AuditedSite, ...], tuple[VarianceShift, ...], list[Finding]]:
    noted = []
    try:
        require_variance(program, inputs)
    except NoStochasticSiteError as error:
        noted.append(Finding("error", "variance", None, str(error)))
    if shifts:
        shifts = measured(program, inputs, shifts, samples, seed)
    most, each = share(len(program.active), samples, PASSES, FEWEST)
    chosen = {site.index: site for site in program.active[:most]}
    if most < len(program.active):
        message = f"of {len(program.active)} sites the first {most} were measured alone"
        noted.append(Finding("info", "consistency", None, message))
    results = []
    for site, before in zip(program.sites, read, strict=True):
        if site.index not in chosen:
            results.append(before)
            continue
        one = alone(program, site, inputs, each, seed)
        results.append(
            replace(
                before,
                difference=one.difference,
                standard_error=one.standard_error,
                spread=one.spread,
                matters=one.matters,
            )
        )
    return tuple(results), shifts, noted
