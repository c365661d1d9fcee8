"""The audit: what is random in a model, and what to know before trusting its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mcdrop.capture.capture import capture
from mcdrop.capture.example import Ranges
from mcdrop.program.program import Program
from mcdrop.program.site import Site

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about a model, or about one of its sites."""

    level: Level
    site: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Sites and findings; prints as a table.

    Attributes:
        model: class of the module.
        sites: every site, in order of execution.
        findings: what stood out.
    """

    model: str
    sites: tuple[Site, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "model": self.model,
            "sites": [
                {
                    "name": site.name,
                    "kind": site.kind,
                    "p": site.p,
                    "shape": list(site.shape),
                    "enabled": site.enabled,
                }
                for site in self.sites
            ],
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __rich__(self) -> Any:
        """The table that rich prints."""
        from rich.console import Group
        from rich.table import Table

        table = Table(
            title=f"{self.model}: {len(self.sites)} stochastic sites", title_justify="left"
        )
        for heading, justify in (
            ("site", "left"),
            ("kind", "left"),
            ("p", "right"),
            ("mask", "left"),
        ):
            table.add_column(heading, justify=justify)  # type: ignore[arg-type]
        for site in self.sites:
            rate = "" if site.p is None else f"{site.p:g}"
            table.add_row(site.name, site.kind, rate, _shape(site))
        lines = [f"[{f.level}] {f.site + ': ' if f.site else ''}{f.message}" for f in self.findings]
        from rich.text import Text

        return Group(table, *(Text(line) for line in lines))

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None)
        with console.capture() as text:
            console.print(self)
        return text.get().rstrip()


def _shape(site: Site) -> str:
    return "×".join("*" if size is None else str(size) for size in site.shape) or "1"


def audit(
    model: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    *,
    dynamic_axes: Ranges | None = None,
) -> Audit:
    """List a model's stochastic sites and what to know about them.

    Args:
        model: any module that `capture` takes.
        example_inputs: as for `capture`.
        dynamic_axes: as for `capture`.

    Raises:
        CaptureError: the module cannot be captured.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        >>> [site.name for site in audit(net, torch.zeros(1, 4)).sites]
        ['2']
    """
    program = capture(model, example_inputs, dynamic_axes=dynamic_axes)
    return Audit(type(model).__name__, program.sites, tuple(_findings(program)))


def _findings(program: Program) -> list[Finding]:
    if not program.sites:
        return [
            Finding(
                "error", None, "nothing random was found: Monte Carlo samples would all be the same"
            )
        ]
    findings = []
    reached = program.stochastic.reached_from(site.mask for site in program.active)
    for public, name in program.stochastic.outputs:
        if name not in reached:
            findings.append(Finding("warning", None, f"no site reaches the output {public!r}"))
    for site in program.sites:
        if site.p is not None and site.p >= 1.0:
            findings.append(Finding("warning", site.name, "drops everything (p = 1)"))
        if site.layout is None:
            findings.append(
                Finding("info", site.name, "all rows share its noise (it does not act on rows)")
            )
    return findings
