"""Findings: what of an audit's results stands out, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mcdrop.auditing.report import AuditedSite, Finding, Level, VarianceShift
from mcdrop.program.program import Program

# A relative difference of means that is told, and one that is warned of: some is the work of
# every nonlinearity behind a site.
TOLD, WARNED = 0.05, 0.25
SHIFTED = 0.1  # a variance so far from the other one is warned of
ERRORS = 4.0  # standard errors that a figure must be away from what is expected
_FEW_ROWS = 32
_AT = {
    "input": "at the input",
    "hidden": "at a hidden layer",
    "output": "at an output, where part of the answer is dropped",
}


def of_program(program: Program, silent: Sequence[str] = ()) -> Iterator[Finding]:
    """What the graph and its sites tell without being run.

    Args:
        program: what was captured.
        silent: names of the model's layers whose rate is 0: they are no sites.
    """
    if not program.sites:
        found = "nothing random was found: Monte Carlo samples would all be the same. "
        yield Finding("error", "variance", None, found + _remedy(silent))
        return
    graph = program.stochastic
    reached = graph.reached_from(site.mask for site in program.active)
    missed = [public for public, name in graph.outputs if name not in reached]
    if len(missed) == len(graph.outputs):
        yield Finding("error", "variance", None, "no site that is on reaches any output")
    else:
        for public in missed:
            yield Finding("warning", "sites", None, f"no site reaches the output {public!r}")
    for site in program.sites:
        if not site.enabled:
            yield Finding("info", "sites", site.name, "left out by the selection: it stays off")
            continue
        if site.p is not None and site.p >= 1.0:
            yield Finding("warning", "sites", site.name, "drops everything (p = 1)")
        if site.layout is None:
            message = "all rows share its noise (it does not act on rows)"
            yield Finding("info", "sites", site.name, message)


def of_rates(sites: Sequence[AuditedSite]) -> Iterator[Finding]:
    """Rates outside of what is customary, sites of one place and rate together."""
    groups: dict[tuple[str, str], list[AuditedSite]] = {}
    for site in sites:
        if site.departs and site.enabled and site.p is not None and site.p < 1.0:
            groups.setdefault((site.place, f"{site.p:.4g}"), []).append(site)
    for (place, rate), members in groups.items():
        assert members[0].advised is not None
        low, high = members[0].advised
        usual = f"{low} to {high} is customary" if high > 0.0 else "0 is customary"
        message = f"p = {rate} {_AT[place]}; {usual}"
        if len(members) == 1:
            yield Finding("info", "rate", members[0].name, message)
        else:
            yield Finding("info", "rate", None, f"{_named([s.name for s in members])}: {message}")


def of_shifts(shifts: Sequence[VarianceShift], rows: int) -> Iterator[Finding]:
    """BatchNorms whose input varies more, or less, with dropout on."""
    unknown = [shift.norm for shift in shifts if shift.ratio is None]
    if unknown:
        why = "its input does not vary over these rows" if rows else "nothing was run"
        yield Finding(
            "info",
            "batch_norm",
            None,
            f"dropout stands in front of BatchNorm ({_named(unknown)}), and may shift the variance "
            f"of its input; not measured, as {why}",
        )
    for shift in shifts:
        if shift.ratio is None or shift.standard_error is None:
            continue
        away = abs(shift.ratio - 1.0)
        if away > SHIFTED and away > ERRORS * shift.standard_error:
            few = ", which is few: pass more" if rows < _FEW_ROWS else ""
            measured_on = f"{rows} row{'s' if rows > 1 else ''}{few}"
            message = (
                f"dropout in front of the BatchNorm {shift.norm!r} makes the variance of its input "
                f"{shift.ratio:.2f} times that without (on {measured_on}). Running statistics "
                "fit either passes with dropout on or those with it off. Drop behind the last "
                "BatchNorm instead, or at a lower rate"
            )
            yield Finding("warning", "batch_norm", shift.sites[-1], message)


def of_samples(sites: Sequence[AuditedSite]) -> Iterator[Finding]:
    """Sites whose samples do not agree with the pass without them, or do nothing."""
    for site in sites:
        if site.matters is False:
            message = "makes no difference to any output on these rows"
            yield Finding("warning", "variance", site.name, message)
        bias = site.bias
        if bias > TOLD:
            level: Level = "warning" if bias > WARNED else "info"
            message = (
                f"the mean over its samples is {bias:.0%} away from the output with it off, "
                "as happens where what follows is not linear: the deterministic pass does not "
                "stand for the mean"
            )
            yield Finding(level, "consistency", site.name, message)


def _remedy(silent: Sequence[str]) -> str:
    if not silent:
        return "Add dropout layers (nn.Dropout, mcdrop.layers) on the way to the output"
    which = "rate of the layer" if len(silent) == 1 else "rates of the layers"
    verb = "is" if len(silent) == 1 else "are"
    return f"The {which} {_named(silent)} {verb} 0: set one above 0, and audit again"


def _named(names: Sequence[str], shown: int = 4) -> str:
    listed = ", ".join(repr(name) for name in names[:shown])
    more = len(names) - shown
    return f"{listed} and {more} more" if more > 0 else listed
