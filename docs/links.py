"""Check that every relative link, image and anchor in the repository's Markdown leads somewhere.

Run it as `python -m docs.links`: it prints the broken ones and exits with 1 if there are any.
Links to other sites are not followed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {"build", "dist", "models", "node_modules"}

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
TARGET = r"<([^<>\n]+)>|((?:[^()\s]|\([^()\s]*\))+)"
INLINE = re.compile(rf"\]\(\s*(?:{TARGET})(?:\s+[\"'(][^\n]*?[\"')])?\s*\)")
REFERENCE = re.compile(rf"^ {{0,3}}\[[^\]\n]+\]:\s*(?:{TARGET})")
HTML = re.compile(r"<[a-z][^>]*?\b(?:href|src|srcset)\s*=\s*[\"']([^\"'\s]+)", re.IGNORECASE)
HTML_ANCHOR = re.compile(r"<[a-z][^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
ELSEWHERE = re.compile(r"^([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Broken:
    """A link that leads nowhere."""

    file: Path
    line: int
    target: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.target}: {self.reason}"


def broken(root: Path) -> list[Broken]:
    """Every broken link in the Markdown files below `root`, in order of file and line."""
    return [
        Broken(path.relative_to(root), line, target, reason)
        for path in sorted(documents(root))
        for line, target in links(path.read_text(encoding="utf-8"))
        if (reason := problem(root, path, target)) is not None
    ]


def documents(root: Path) -> Iterator[Path]:
    """The Markdown files below `root`, without hidden, built and downloaded folders."""
    for path in root.rglob("*.md"):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") or part in SKIPPED for part in parts):
            yield path


def links(text: str) -> Iterator[tuple[int, str]]:
    """Pairs (line number, target) of the links in a document, those in code left out.

    Example:
        >>> list(links("see [here](a.md#b) and `[not](this.md)`"))
        [(1, 'a.md#b')]
    """
    for number, line in _prose(text):
        shown = CODE.sub("", line)
        for pattern in (INLINE, REFERENCE, HTML):
            for match in pattern.finditer(shown):
                yield number, next(group for group in match.groups() if group)


def anchors(text: str) -> set[str]:
    r"""Anchors of a document, as GitHub makes them of its headings, and explicit ones.

    Example:
        >>> sorted(anchors("# How it works: a `tour`!\n## Again\n## Again"))
        ['again', 'again-1', 'how-it-works-a-tour']
    """
    found: set[str] = set()
    counts: dict[str, int] = {}
    for _, line in _prose(text):
        found.update(HTML_ANCHOR.findall(line))
        heading = HEADING.match(line)
        if heading is None:
            continue
        slug = _slug(heading[1])
        count = counts.get(slug, 0)
        counts[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def problem(root: Path, document: Path, target: str) -> str | None:
    """Why a link leads nowhere; `None` if it leads somewhere, or to another site."""
    if ELSEWHERE.match(target):
        return None
    name, _, fragment = target.partition("#")
    path = unquote(name.partition("?")[0])
    base = root if path.startswith("/") else document.parent
    file = (base / path.lstrip("/")).resolve() if path else document.resolve()
    if not file.is_relative_to(root.resolve()):
        return "leads out of the repository"
    if not file.exists():
        return "no such file"
    if fragment and file.suffix == ".md" and unquote(fragment) not in _anchors_of(file):
        return "no such heading"
    return None


@cache
def _anchors_of(file: Path) -> frozenset[str]:
    return frozenset(anchors(file.read_text(encoding="utf-8")))


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside of fenced code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif match:
            fence = match[1]
        else:
            yield number, line


def _slug(heading: str) -> str:
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link's text stays
    text = re.sub(r"<[^>]+>", "", text).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def main(root: Path = ROOT) -> int:
    """Print the broken links; 1 if there are any."""
    found = broken(root)
    for link in found:
        sys.stdout.write(f"{link}\n")
    count = sum(1 for _ in documents(root))
    sys.stdout.write(f"{count} documents, {len(found)} broken links\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
