"""An audit as tables, for a terminal."""

from __future__ import annotations

from typing import Any, Literal

from mcdrop.auditing.report import Audit, AuditedSite, VarianceShift


def render(audit: Audit) -> Any:
    """What rich prints: the sites, the BatchNorms behind them, the findings."""
    from rich.console import Group
    from rich.text import Text

    lines = [f"[{f.level}] {f.site + ': ' if f.site else ''}{f.message}" for f in audit.findings]
    shifts = [_shifts(audit)] if audit.shifts else []
    sites = _sites(audit) if audit.sites else Text(_title(audit))
    return Group(sites, *shifts, *(Text(line) for line in lines))


def _table(title: str, *columns: tuple[str, Literal["left", "right"]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left")
    for heading, justify in columns:
        table.add_column(heading, justify=justify, overflow="fold")
    return table


def _title(audit: Audit) -> str:
    count = len(audit.sites)
    return f"{audit.model}: {count} stochastic {'site' if count == 1 else 'sites'}"


def _sites(audit: Audit) -> Any:
    measured = any(site.difference is not None for site in audit.sites)
    table = _table(
        _title(audit),
        ("site", "left"),
        ("kind", "left"),
        ("place", "left"),
        ("p", "right"),
        ("customary", "left"),
        ("mask", "left"),
    )
    if measured:
        table.add_column("mean off by", justify="right")
        table.caption = "mean off by: samples of the site alone, against it off"
    for site in audit.sites:
        cells = [site.name, site.kind, site.place, _rate(site), _usual(site), _shape(site)]
        table.add_row(*cells, *([_difference(site)] if measured else []))
    return table


def _rate(site: AuditedSite) -> str:
    if not site.enabled:
        return "off"
    return "" if site.p is None else f"{site.p:.4g}"


def _usual(site: AuditedSite) -> str:
    if site.advised is None:
        return ""
    low, high = site.advised
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _shape(site: AuditedSite) -> str:
    return "×".join("*" if size is None else str(size) for size in site.shape) or "1"


def _difference(site: AuditedSite) -> str:
    if site.difference is None or site.standard_error is None:
        return ""
    return f"{site.difference:.1%} ± {site.standard_error:.1%}"


def _shifts(audit: Audit) -> Any:
    table = _table(
        "BatchNorms behind dropout",
        ("norm", "left"),
        ("sites in front", "left"),
        ("variance, on ÷ off", "right"),
        ("channels", "right"),
    )
    for shift in audit.shifts:
        table.add_row(shift.norm, _front(shift), _ratio(shift), str(shift.channels or ""))
    return table


def _front(shift: VarianceShift) -> str:
    shown = ", ".join(shift.sites[-3:])
    more = len(shift.sites) - 3
    return f"{more} more, {shown}" if more > 0 else shown


def _ratio(shift: VarianceShift) -> str:
    if shift.ratio is None or shift.lowest is None or shift.highest is None:
        return "not measured"
    return f"{shift.ratio:.2f} ({shift.lowest:.2f}–{shift.highest:.2f})"
