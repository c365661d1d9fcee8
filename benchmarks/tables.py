"""Tables in Markdown, of records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.record import Record

Cells = Sequence[str]
_SIDES = ("naive", "baal", "torch-uncertainty")


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of a kind, in their order."""
    return [record for record in records if record["kind"] == kind]


def table(header: Cells, rows: Iterable[Cells]) -> str:
    """A Markdown table, its first column of text and the others of numbers.

    Example:
        >>> print(table(("net", "time"), [("mlp", "3 ms")]))
        | net | time |
        |---|--:|
        | mlp | 3 ms |
    """
    rule = "|---|" + "--:|" * (len(header) - 1)
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def number(value: float) -> str:
    """Three digits, no more than needed.

    Example:
        >>> number(1234.5), number(31.75), number(4.168), number(0.6), number(0.01234)
        ('1,234', '31.8', '4.17', '0.60', '0.012')
    """
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def milliseconds(seconds: float) -> str:
    """With its unit."""
    return f"{number(seconds * 1000)} ms"


def ratio(record: Record, name: str) -> str:
    """A median with its min and max."""
    low, high = number(record[f"{name}_min"]), number(record[f"{name}_max"])
    return f"**{number(record[name])}** ({low} to {high})"


def summary(records: Iterable[Record]) -> str:
    """The README's: one line a workload."""
    header = ("workload", "samples", "deterministic passes", "× naive loop", "× best peer")
    rows = [
        (
            record["title"],
            f"{record['samples']:,}",
            number(record["passes"]),
            number(record["faster_than_loop"]),
            number(record["faster_than_best"]),
            number(record["fresh_faster_than_best"]),
        )
        for record in of_kind(records, "speed")
    ]
    return table((*header, "× best peer, new seed"), rows)


def speed(records: Sequence[Record]) -> str:
    """Time, passes, best peer, share of the peak, and memory."""
    taken = {record["workload"]: record["taken_mib"] for record in of_kind(records, "memory")}
    header = ("workload", "samples", "time", "new seed", "deterministic passes", "× best peer")
    rows = [
        (
            record["title"],
            f"{record['samples']:,}",
            milliseconds(record["mcdrop_s"]),
            milliseconds(record["fresh_s"]),
            ratio(record, "passes"),
            f"{ratio(record, 'faster_than_best')}, {record['best']}",
            number(record["fresh_faster_than_best"]),
            f"{number(100 * record['dense_flops_fraction'])}%",
            mebibytes(taken[record["workload"]]["mcdrop"]) if record["workload"] in taken else "",
            record["engine"],
        )
        for record in of_kind(records, "speed")
    ]
    more = ("× best peer, new seed", "dense FLOPs of peak", "memory", "engine")
    return table((*header, *more), rows)


def steady(records: Iterable[Record]) -> str:
    """The same call after call."""
    rows = [
        (
            record["title"],
            f"{record['samples']:,}",
            milliseconds(record["steady_deterministic_s"]),
            milliseconds(record["steady_s"]),
            milliseconds(record["steady_fresh_s"]),
            ratio(record, "steady_passes"),
            f"{ratio(record, 'steady_faster_than_best')}, {record['steady_best']}",
            number(record["steady_fresh_faster_than_best"]),
        )
        for record in of_kind(records, "speed")
    ]
    header = ("workload", "samples", "a deterministic pass", "time", "new seed")
    return table((*header, "deterministic passes", "× best peer", "× best peer, new seed"), rows)


def masks(records: Iterable[Record]) -> str:
    """Nanoseconds for each element of a mask."""
    names = ("dropout", "balanced_bits", "balanced_mask", "iid_bits", "iid_mask")
    rows = [
        (f"{row['p']:g}", *(f"{row[f'{name}_ns']:.2f}" for name in names))
        for record in of_kind(records, "masks")
        for row in record["rates"]
    ]
    header = ("p", "`F.dropout`", "balanced: bits", "balanced: mask", "iid: bits", "iid: mask")
    return table(header, rows)


def metrics(records: Iterable[Record]) -> str:
    """What metrics take for a million rows."""
    kinds = {"summed": "sum or bin", "ranked": "rank, and keep what they rank"}
    rows = [
        (
            f"{len(record[kind])} that {what}",
            f"{record['rows']:,}",
            f"{number(record[f'{kind}_s'])} s",
            f"{number(record[f'{kind}_growth_mib'])} MiB",
        )
        for record in of_kind(records, "metrics")
        for kind, what in kinds.items()
    ]
    return table(("metrics", "rows", "time", "memory, against a tenth of the rows"), rows)


def sides(records: Iterable[Record]) -> str:
    """Every other side at its fastest, as multiples of mcdrop's time, and what each misses."""
    rows, notes = [], []
    for record in of_kind(records, "speed"):
        cells = [record["title"], f"{record['samples']:,}", milliseconds(record["mcdrop_s"])]
        for name in _SIDES:
            row = fastest(record, name)
            cells.append("" if row is None else _marked(row))
            notes += [
                f"- † {other['label']}, {record['title']}: {other['note']}."
                for other in record["sides"]
                if other["side"] == name and other["note"] and (other is row or _failed(other))
            ]
        rows.append(cells)
    header = ("workload", "samples", "mcdrop", *(f"× {name}" for name in _SIDES))
    return "\n".join([table(header, rows), *(["", *notes] if notes else [])])


def _marked(row: Record) -> str:
    return f"{number(row['ratio'])}{' †' if row['note'] else ''}, {row['variant']}"


def _failed(row: Record) -> bool:
    return row["seconds"] is None


def fastest(record: Record, name: str) -> Record | None:
    """The fastest way of a side, one that misses nothing if there is one; `None` if none runs."""
    ran = [row for row in record["sides"] if row["side"] == name and not _failed(row)]
    right = [row for row in ran if not row["note"]]
    return min(right or ran, key=lambda row: float(row["ratio"]), default=None)


def memory(records: Iterable[Record]) -> str:
    """Peak above the state before, of mcdrop and of the naive ways."""
    rows = [
        (
            record["title"],
            f"{record['samples']:,}",
            *(mebibytes(value) for value in record["taken_mib"].values()),
        )
        for record in of_kind(records, "memory")
    ]
    return table(("workload", "samples", "mcdrop", "naive: loop", "naive: rows repeated"), rows)


def mebibytes(value: float) -> str:
    """With its unit."""
    return f"{value:,.0f} MiB" if value >= 10 else f"{value:.1f} MiB"


def growth(records: Iterable[Record]) -> str:
    """One sentence: the peak of 10,000 samples against that of 100.

    Example:
        >>> growth([{"kind": "growth", "workload": "mlp", "title": "MLP", "ratio": 1.014}])
        'Peak memory of 10,000 samples is 1.01 (MLP) times that of 100.'
    """
    found = [f"{r['ratio']:.2f} ({r['title']})" for r in of_kind(records, "growth")]
    return f"Peak memory of 10,000 samples is {', '.join(found)} times that of 100."


def accuracy(records: Iterable[Record]) -> str:
    """Samples and time until the mean is within the bound."""
    rows = []
    for record in of_kind(records, "accuracy"):
        seconds = [record[name] for name in ("iid_s", "other_s")]
        ours = record["default_s"], record["default_fresh_s"]
        times = [_over(slow, fast) for slow in seconds for fast in ours]
        rows.append((record["title"], *to_accuracy(record), record["other"] or "", *times))
    header = ("model", "mcdrop, iid, batched", "mcdrop, defaults", "with a new seed")
    more = ("best other side", "which", "× iid", "new seed", "× best other side", "new seed")
    return table((*header, *more), rows)


def to_accuracy(record: Record) -> list[str]:
    """Samples and time of our iid, of our defaults twice, and of the best other side."""
    sides = [
        (record["iid_samples"], record["iid_s"]),
        (record["default_samples"], record["default_s"]),
        (record["default_samples"], record["default_fresh_s"]),
        (record["other_samples"], record["other_s"]),
    ]
    return [
        "not reached" if seconds is None else f"{samples:,} in {milliseconds(seconds)}"
        for samples, seconds in sides
    ]


def _over(slow: float | None, fast: float | None) -> str:
    return "" if slow is None or fast is None else number(slow / fast)


def references(records: Iterable[Record]) -> str:
    """What the truth of each model is, and how far it is from the limit."""
    return "\n".join(
        f"- {record['title']}: {record['data']}; {record['rows']} rows, {record['seeds']} seeds; "
        f"the reference's own error is {record['reference_error']:.2%}."
        for record in of_kind(records, "accuracy")
    )


def sampling(records: Iterable[Record]) -> str:
    """Balanced against iid, one line a model and number of samples."""
    rows = [
        (
            record["title"],
            f"{row['samples']:,}",
            f"{row['mean_gain']:.1f} ± {row['mean_gain_se']:.1f}",
            f"{row['variance_mse']:.2f} ± {row['variance_mse_se']:.2f}",
            f"{row['variance_bias']:+.1%} ± {row['variance_bias_se']:.1%}",
        )
        for record in of_kind(records, "sampling")
        for row in record["counts"]
    ]
    header = ("model", "samples", "error² of the mean, iid / balanced")
    return table((*header, "error² of the variance, balanced / iid", "bias of the variance"), rows)


def machine(records: Iterable[Record]) -> str:
    """What the records ran on, once for each machine and set of versions."""
    found: dict[str, list[str]] = {}
    for record in records:
        parts = [f"{record['machine'].get('accelerator', record['machine']['processor'])}"]
        parts += [f"{record['machine'][name]} {name}" for name in ("cores", "threads")]
        parts.append(record["machine"]["vectors"])
        parts += [f"{name} {version}" for name, version in record["versions"].items()]
        found.setdefault(", ".join(parts), []).append(record["date"][:10])
    lines = [f"- {text} ({_span(dates)})" for text, dates in found.items()]
    peaks = of_kind(records, "peak")
    rates = [f"{number(record['flops_per_s'] / 1e9)} GFLOP/s" for record in peaks]
    return "\n".join([*lines, f"- Peak of a float32 matrix product: {', '.join(rates)}"])


def _span(dates: Sequence[str]) -> str:
    first, last = min(dates), max(dates)
    return first if first == last else f"{first} to {last}"
