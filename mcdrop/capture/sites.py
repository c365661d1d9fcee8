"""Sites: what random nodes are called, how they are keyed, and which are enabled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mcdrop.errors import InputError
from mcdrop.program.randomness import Found
from mcdrop.program.site import Site


def describe(found: Sequence[Found]) -> tuple[Site, ...]:
    """Sites that know what they are, not yet where their rows are.

    Keys count the sites that draw, in order of execution, so that they are the same for a module
    that runs eagerly; sites that drop everything (p = 1) draw nothing and come behind.
    """
    drawing = sum(f.p != 1.0 for f in found)
    drawn, certain = iter(range(drawing)), iter(range(drawing, len(found)))
    return tuple(
        Site(
            name=name,
            kind=f.kind,
            p=f.p,
            shape=(),
            law=f.law,
            node=f.node.name,
            index=next(certain if f.p == 1.0 else drawn),
            layer=f.layer,
            threshold=f.threshold,
        )
        for name, f in zip(name_all(found), found, strict=True)
    )


def name_all(found: Sequence[Found]) -> list[str]:
    """A name for each site: its module path, and what it is where the path alone does not tell.

    A site alone in a module of its own (`nn.Dropout` at `head.drop`) has the module's path;
    attention and recurrent sites say so behind it (`encoder.attn.attention`, `rnn.layer0`); further
    ones are numbered.
    """
    wanted = [_label(f) for f in found]
    counts = Counter(wanted)
    seen: Counter[str] = Counter()
    names = []
    for label in wanted:
        names.append(f"{label}_{seen[label]}" if counts[label] > 1 else label)
        seen[label] += 1
    return names


def _label(found: Found) -> str:
    path = found.node.path
    if found.kind == "rnn":
        return f"{path}.layer{found.layer}".removeprefix(".")
    if found.kind == "attention":
        return f"{path}.attention".removeprefix(".")
    return path or found.kind


def select(sites: Sequence[Site], patterns: str | Sequence[str] | None) -> tuple[Site, ...]:
    """Enable the sites whose names match one of the patterns (`"head.*"`); all for `None`.

    Raises:
        InputError: a pattern matches no site, or is no text.
    """
    if patterns is None:
        return tuple(sites)
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(wanted, Sequence) or not all(isinstance(p, str) for p in wanted):
        raise InputError(f"sites must be a pattern or a list of patterns; got {patterns!r}")
    for pattern in wanted:
        if not any(fnmatchcase(site.name, pattern) for site in sites):
            known = ", ".join(repr(site.name) for site in sites) or "none"
            raise InputError(f"sites: {pattern!r} matches no site; the model has: {known}")
    return tuple(
        replace(site, enabled=any(fnmatchcase(site.name, pattern) for pattern in wanted))
        for site in sites
    )
