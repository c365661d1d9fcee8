"""What an audit found: frozen results of plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mcdrop.program.places import Place
from mcdrop.program.site import Kind

Level = Literal["info", "warning", "error"]
CHANCE = 10**0.5  # errors of a difference that are no finding
Check = Literal["sites", "rate", "batch_norm", "consistency", "variance"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about a model, or about one of its sites.

    Attributes:
        level: an error makes `mcdrop audit` fail.
        check: which of the audit's checks it comes from.
        site: name of the site; `None` where it is about several, or about none.
        message: in words.
    """

    level: Level
    check: Check
    site: str | None
    message: str


@dataclass(frozen=True, slots=True)
class AuditedSite:
    """A site, where it stands, and what it does to the model's outputs when it alone is on.

    Attributes:
        name: as `Site` has it.
        kind: the technique, as `Site` has it.
        layer: class of the module that it comes from; of the model for a function in its forward.
        place: where it stands in the network, see `mcdrop.program.places`.
        p: probability to drop; `None` where the noise is not a drop-out.
        advised: least and greatest customary rate; `None` where the advice does not apply.
        shape: shape of its mask, the batch taken out; `None` for an axis that is free.
        enabled: `False` where the selection left it out.
        difference: norm of (mean over samples - output with the site off) over the norm of that
            output, or over the spread where that is greater; a ratio without unit, of the output
            where it is largest, the part of chance taken off. `None` where it was not measured.
        standard_error: what chance makes of `difference`, see `mcdrop.auditing.alone`.
        spread: norm of the samples' standard deviations over the same norm.
        matters: whether any output changes with its masks; `None` where it was not measured.
    """

    name: str
    kind: Kind
    layer: str
    place: Place
    p: float | None
    advised: tuple[float, float] | None
    shape: tuple[int | None, ...]
    enabled: bool
    difference: float | None = None
    standard_error: float | None = None
    spread: float | None = None
    matters: bool | None = None

    @property
    def departs(self) -> bool:
        """Whether the rate is outside of the advice, by more than rounding."""
        if self.advised is None or self.p is None:
            return False
        low, high = self.advised
        return not low - 1e-6 <= self.p <= high + 1e-6

    @property
    def bias(self) -> float:
        """`difference` where it is beyond chance, else 0.

        It is 0, too, where the samples happened not to vary: units so rarely dropped that none was.
        """
        if not self.difference or not self.standard_error:
            return 0.0
        return self.difference if self.difference > CHANCE * self.standard_error else 0.0


@dataclass(frozen=True, slots=True)
class VarianceShift:
    """What sites in front of a BatchNorm do to the variance of its input.

    Attributes:
        norm: module path of the BatchNorm.
        sites: enabled sites that reach it, in order of execution.
        channels: how many channels were measured: those that vary with the sites off.
        ratio: variance with the sites sampled over variance with them off, over rows, places and
            samples; the median of the channels. No unit. `None` where it was not measured.
        lowest: the same, of the channel where it is least.
        highest: the same, of the channel where it is greatest.
        standard_error: Monte Carlo error of `ratio`; of the rows themselves it says nothing.
    """

    norm: str
    sites: tuple[str, ...]
    channels: int = 0
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None
    standard_error: float | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """Sites, BatchNorms behind them, and findings; prints as tables.

    Attributes:
        model: class of the module.
        sites: every site, in order of execution.
        shifts: every BatchNorm that a site reaches, in order of execution.
        findings: what stood out.
        rows: on how many rows it was measured; 0 where it was not.
        samples: how many passes with every site on; each site alone may have had fewer.
        seed: of the masks.
    """

    model: str
    sites: tuple[AuditedSite, ...]
    shifts: tuple[VarianceShift, ...]
    findings: tuple[Finding, ...]
    rows: int = 0
    samples: int = 0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        plain = asdict(self)
        for site, told in zip(self.sites, plain["sites"], strict=True):
            told["departs"] = site.departs
        return plain

    def __rich__(self) -> Any:
        """The tables that rich prints."""
        from mcdrop.auditing.table import render

        return render(self)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None)
        with console.capture() as text:
            console.print(self)
        return text.get().rstrip()
