"""`python -m benchmarks.serving.document`: write the results into docs/serving-benchmarks.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import record, report, tables
from benchmarks.record import Record
from benchmarks.serving import plot
from benchmarks.serving.__main__ import RESULTS
from benchmarks.serving.setting import Setting
from benchmarks.serving.summary import rate, time

DOCUMENT = report.ROOT / "docs" / "serving-benchmarks.md"
PICTURE = report.ROOT / "docs" / "images" / "serving.svg"
NOT_YET = "*Not measured yet.*"
_SHOWN = "![Latency of both servers at rising rates](images/serving.svg)"


def blocks(records: Sequence[Record]) -> dict[str, str]:
    """What goes between the marks, by name."""
    made: dict[str, tuple[str, Callable[[list[Record]], str]]] = {
        "versus": ("serving_versus", _versus),
        "tuning": ("serving_tune", _tuning),
        "mixed": ("serving_mixed", _mixed),
        "overload": ("serving_overload", _overload),
        "soak": ("serving_soak", _soak),
        "rates": ("serving_rates", _rates),
    }
    found = {}
    for name, (kind, write) in made.items():
        mine = tables.of_kind(records, kind)
        found[name] = write(mine) if mine else NOT_YET
    return found | {"machine": _machine(records) if records else NOT_YET}


def _versus(records: list[Record]) -> str:
    rows = []
    for row in records:
        ours, theirs = row["ours"], row["theirs"]
        rows.append(
            (
                f"{row['title']}, {row['samples']} samples",
                rate(ours["rows_per_s"]),
                rate(theirs["rows_per_s"]),
                tables.ratio(row, "throughput"),
                time(ours["p99_ms"]),
                time(theirs["p99_ms"]),
                tables.ratio(row, "p99"),
            )
        )
    header = ("model", "mcdrop", "LitServe", "times the rows", "p99", "LitServe's p99")
    notes = [
        f"- {row['title']}: {len(row['rounds']['ours'])} rounds of {row['seconds']:g} s a side, "
        f"{row['clients']} clients; {row['checked']:,} of mcdrop's answers checked, {row['wrong']} "
        f"wrong (any two rows are {row['closest_rows']:.1g} apart at least); LitServe's means lie "
        f"{row['deviation']['rms_standard_errors']:.2f} standard errors from the truth (root mean "
        f"square). LitServe: {Setting(**row['setting'])}."
        for row in records
    ]
    table = tables.table((*header, "times shorter"), rows)
    return "\n".join([table, "", *notes])


def _tuning(records: list[Record]) -> str:
    parts = []
    for row in records:
        tried = sorted(row["tried"], key=lambda one: -one["rows_per_s"])
        cells = [
            (str(Setting(**one["setting"])), rate(one["rows_per_s"]), time(one["p99_ms"]))
            for one in tried
        ]
        parts.append(tables.table((f"{row['title']}: setting", "throughput", "p99"), cells))
    return "\n\n".join(parts)


def _mixed(records: list[Record]) -> str:
    rows = [
        (
            f"{row['title']}, {row['rate']:g} a second",
            f"{row['alone']['requests']:,}",
            time(row["alone"]["p50_ms"]),
            time(row["alone"]["p99_ms"]),
            time(row["beside"]["p50_ms"]),
            time(row["beside"]["p99_ms"]),
            tables.ratio(row, "p99_ratio"),
            time(row["large"]["p50_ms"]),
        )
        for row in records
    ]
    header = ("model", "requests a side", "p50 alone", "p99 alone", "p50 beside", "p99 beside")
    return tables.table((*header, "times the p99", "the large one's p50"), rows)


def _overload(records: list[Record]) -> str:
    rows = []
    for row in records:
        counts, memory = row["statuses"], row["memory"]
        back = row["recovered_s"]
        rows.append(
            (
                row["title"],
                rate(row["capacity_rows_per_s"]),
                f"{row['overload']['requests'] / row['seconds']:,.0f}/s for {row['seconds']:g} s",
                ", ".join(f"{status}: {count:,}" for status, count in counts.items()),
                rate(row["overload"]["rows_per_s"]),
                time(row["overload"]["p99_ms"]),
                f"{memory['first_mib']:.0f}, {memory['peak_mib']:.0f} MiB",
                "never" if back is None else f"{back:.2f} s",
                f"{row['wrong']} of {row['checked']:,}",
            )
        )
    header = ("model", "capacity", "sent", "statuses", "answered", "p99 of those")
    table = tables.table((*header, "memory, peak", "recovered in", "wrong"), rows)
    return "\n".join([table, *_problems(records)])


def _soak(records: list[Record]) -> str:
    row = records[0]
    memory, latency = row["memory"], row["latency"]

    def counts(name: str) -> str:
        return ", ".join(f"{status}: {count:,}" for status, count in row[name].items())

    cells = [
        ("minutes", f"{row['minutes']:g}"),
        ("valid requests, by status", counts("valid")),
        ("bad requests, by status", counts("bad")),
        ("hung up in the middle", f"{row['hung_up']:,}"),
        ("client processes killed", f"{row['killed']}"),
        ("reloads", f"{row['reloads']} (answers by version: {counts('answered_by')})"),
        ("p50, p99", f"{time(latency['p50_ms'])}, {time(latency['p99_ms'])}"),
        ("answers checked, wrong", f"{row['checked']:,}, {row['wrong']}"),
        (
            "memory at first, half-way, at last",
            f"{memory['first_mib']:.0f}, {memory['half_mib']:.0f}, {memory['last_mib']:.0f} MiB",
        ),
        (
            "its slope in the second half",
            f"{memory['slope_mib_per_minute']:+.2f} ± {memory['slope_error']:.2f} MiB a minute",
        ),
        ("asked while it stopped, by status", counts("drain")),
        ("cut off by the stop", f"{row['cut_off']}"),
        ("exit code", f"{row['exit_code']}"),
    ]
    return "\n".join([tables.table(("soak", ""), cells), *_problems(records)])


def _rates(records: list[Record]) -> str:
    rows = []
    for row in records:
        theirs = {one["rate"]: one for one in row["rates"]["theirs"]}
        for one in row["rates"]["ours"]:
            other = theirs.get(one["rate"], {})
            cells = [
                time(side.get(f"p{rank}_ms")) for side in (one, other) for rank in (50, 95, 99)
            ]
            rows.append(
                (row["title"], tables.number(one["rate"]), *cells, _errors(one), _errors(other))
            )
    header = ("model", "requests/s", "p50", "p95", "p99")
    more = ("LitServe's p50", "p95", "p99", "errors", "LitServe's errors")
    return f"{_SHOWN}\n\n{tables.table((*header, *more), rows)}"


def _errors(row: Record) -> str:
    if not row:
        return ""
    failed = {status: count for status, count in row["statuses"].items() if status != "200"}
    return ", ".join(f"{status}: {count:,}" for status, count in failed.items()) or "0"


def _problems(records: list[Record]) -> list[str]:
    found = [f"- **{row['workload']}: {text}**" for row in records for text in row["failures"]]
    return ["", *found] if found else []


def _machine(records: Sequence[Record]) -> str:
    lines = dict.fromkeys(_ran_on(row) for row in records)
    commands = dict.fromkeys(row["command"] for row in records)
    return "\n".join([*lines, *(f"- `{command}`" for command in commands)])


def _ran_on(row: Record) -> str:
    machine = row["machine"]
    known = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    server = ", ".join(f"{name}={value}" for name, value in row["server"].items())
    return (
        f"- {machine['processor']}, {machine['cores']} cores (the load generator has a share of "
        f"them), {machine['vectors']}, {known}, {server or 'the server as it comes'} "
        f"({row['date'][:10]})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the document and draw the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.document", description=__doc__
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    records = record.read(options.results)
    text = report.filled(DOCUMENT.read_text(encoding="utf-8"), blocks(records))
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.relative_to(report.ROOT)} filled\n")
    if tables.of_kind(records, "serving_rates"):
        plot.save(records, PICTURE)
        sys.stdout.write(f"{PICTURE.relative_to(report.ROOT)} drawn\n")


if __name__ == "__main__":
    main()
