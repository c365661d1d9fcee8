"""`python -m benchmarks.uci.document`: write the results into docs/uci.md, beside the paper's."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import record, report, tables
from benchmarks.record import Record
from benchmarks.uci.__main__ import RESULTS
from benchmarks.uci.paper import PAPER, Published

DOCUMENT = report.ROOT / "docs" / "uci.md"
_NAMES = {"published": "published protocol", "defaults": "our defaults"}


def blocks(records: Sequence[Record]) -> dict[str, str]:
    """What goes between the marks, by name."""
    runs = tables.of_kind(records, "uci")
    return {
        "uci": _figures(runs),
        "bars": _bars(runs),
        "choices": _choices(runs),
        "machine": f"{_machine(runs)}\n{_ratio(records)}",
    }


def _figures(records: Sequence[Record]) -> str:
    """One line for each set and way, the paper's first."""
    rows = []
    for name in _sets(records):
        shape = next(f"{r['rows']:,}, {r['features']}" for r in records if r["set"] == name)
        if name in PAPER:
            paper = PAPER[name]
            rmse = _value(paper.rmse, paper.rmse_error)
            rows.append((name, shape, "paper", rmse, _of_paper(paper), "", ""))
        rows += [
            (
                name,
                shape,
                _NAMES[row["protocol"]],
                _value(row["rmse"], row["rmse_error"]),
                _value(row["log_likelihood"], row["log_likelihood_error"]),
                _deviations(row),
                f"{row['seconds']:.0f} s",
            )
            for row in records
            if row["set"] == name
        ]
    header = (
        "set",
        "N, d",
        "way",
        "test RMSE",
        "test LL",
        "LL less the paper's, in its SE",
        "time",
    )
    return tables.table(header, rows)


def _bars(records: Sequence[Record]) -> str:
    """What was asked for, judged."""
    rows = []
    for row in records:
        paper = PAPER.get(row["set"])
        if paper is None:
            continue
        if row["protocol"] == "published":
            most = paper.rmse + 2 * paper.rmse_error
            least = paper.log_likelihood - 2 * paper.log_likelihood_error
            asked = f"RMSE ≤ {most:.4f}, LL ≥ {least:.4f} (two SE)"
            met = row["rmse"] <= most and row["log_likelihood"] >= least
        else:
            least = paper.log_likelihood
            asked = f"LL above {least:.4f} (on two of three sets; one SE below on the other)"
            met = row["log_likelihood"] > least
        found = f"{row['rmse']:.4f}, {row['log_likelihood']:.4f}"
        rows.append((row["set"], _NAMES[row["protocol"]], asked, found, "yes" if met else "**no**"))
    return tables.table(("set", "way", "asked for", "RMSE, LL found", "reached"), rows)


def _choices(records: Sequence[Record]) -> str:
    """Which nets validation chose, and how often."""
    rows = []
    for row in records:
        counted: Counter[str] = Counter(_choice(split) for split in row["splits"])
        text = "; ".join(f"{choice}: {count}" for choice, count in counted.most_common(4))
        more = sum(counted.values()) - sum(count for _, count in counted.most_common(4))
        text += f"; others: {more}" if more else ""
        rows.append((row["set"], _NAMES[row["protocol"]], text))
    return tables.table(("set", "way", "chosen in so many splits"), rows)


def _choice(split: Record) -> str:
    tau = f", τ = {split['tau']:.3g}" if "tau" in split else f", {split['epochs']:,} epochs"
    return f"p = {split['rate']:g}{tau}"


def _machine(records: Sequence[Record]) -> str:
    first = records[0]
    machine, versions = first["machine"], first["versions"]
    minutes = sum(row["seconds"] for row in records) / 60
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    splits = statistics.mode(len(row["splits"]) for row in records)
    return (
        f"- {machine['processor']}, {machine['cores']} cores, {machine['vectors']}, {known} "
        f"({first['date'][:10]})\n"
        f"- `{first['command']}`\n"
        f"- All of it in {minutes:.1f} minutes; {splits} splits, "
        f"{first['samples']:,} samples of a test prediction."
    )


def _ratio(records: Sequence[Record]) -> str:
    return "\n".join(
        f"- A stack of {row['nets']} nets is trained {tables.ratio(row, 'ratio')} times faster "
        "than its nets one after the other by autograd, on one thread."
        for row in tables.of_kind(records, "uci_ratio")
    )


def _sets(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(row["set"] for row in records))


def _value(mean: float, error: float | None) -> str:
    return f"{mean:.4f}" if error is None else f"{mean:.4f} ± {error:.4f}"


def _of_paper(paper: Published) -> str:
    return _value(paper.log_likelihood, paper.log_likelihood_error)


def _deviations(row: Record) -> str:
    paper = PAPER.get(row["set"])
    if paper is None:
        return ""
    return f"{(row['log_likelihood'] - paper.log_likelihood) / paper.log_likelihood_error:+.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uci.document", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    made = blocks(record.read(options.results))
    DOCUMENT.write_text(report.filled(DOCUMENT.read_text(encoding="utf-8"), made), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.relative_to(report.ROOT)} filled\n")


if __name__ == "__main__":
    main()
