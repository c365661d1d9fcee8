"""`python -m benchmarks.report`: write the results into the documents, and draw them.

A document keeps its own text; what lies between `<!-- benchmarks: NAME -->` and
`<!-- /benchmarks: NAME -->` is made from the committed JSON lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import plot, record, tables, targets
from benchmarks.record import Record

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "benchmarks.svg"
DOCUMENTS = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
_SHOWN = "![How many times faster than the best peer, workload by workload](images/benchmarks.svg)"


def blocks(records: Sequence[Record]) -> dict[str, str]:
    """What goes between the marks, by name."""
    return {
        "summary": f"{tables.summary(records)}\n\n{_cores(records)} {tables.growth(records)}",
        "machine": tables.machine(records),
        "speed": f"{_SHOWN}\n\n{tables.speed(records)}",
        "targets": targets.table(records),
        "steady": tables.steady(records),
        "masks": tables.masks(records),
        "metrics": tables.metrics(records),
        "sides": tables.sides(records),
        "memory": f"{tables.memory(records)}\n\n{tables.growth(records)}",
        "accuracy": f"{tables.accuracy(records)}\n\n{tables.references(records)}",
        "sampling": tables.sampling(records),
    }


def filled(text: str, made: Mapping[str, str]) -> str:
    r"""A document with its blocks as made.

    Raises:
        ValueError: a block has no such name, or does not end.

    Example:
        >>> filled("a\n<!-- benchmarks: n -->\nold\n<!-- /benchmarks: n -->\nb", {"n": "new"})
        'a\n<!-- benchmarks: n -->\nnew\n<!-- /benchmarks: n -->\nb'
    """
    for name in re.findall(r"^<!-- benchmarks: (\w+) -->$", text, re.MULTILINE):
        begin, end = f"<!-- benchmarks: {name} -->\n", f"<!-- /benchmarks: {name} -->"
        if name not in made or text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(
                f"the block {name!r} must begin and end once, and be one of {', '.join(made)}"
            )
        before, rest = text.split(begin)
        text = before + begin + made[name] + "\n" + end + rest.split(end)[1]
    return text


def _cores(records: Sequence[Record]) -> str:
    first = tables.of_kind(records, "speed")[0]
    return f"On {first['machine']['cores']} cores."


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the documents and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=record.RESULTS / "cpu.jsonl")
    options = parser.parse_args(arguments)
    records = record.read(options.results)
    made = blocks(records)
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(encoding="utf-8"), made), encoding="utf-8")
        sys.stdout.write(f"{document.relative_to(ROOT)} filled\n")
    plot.save(records, PICTURE)
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)} drawn\n")


if __name__ == "__main__":
    main()
