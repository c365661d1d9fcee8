"""A record in a line or a few, for a person who waits."""

from __future__ import annotations

from benchmarks import tables
from benchmarks.record import Record
from benchmarks.serving.setting import Setting


def shown(new: Record) -> str:
    """What a part found, and what was wrong with it."""
    title = f"{new['kind'].removeprefix('serving_'):9}{new.get('title', ''):26}"
    match new["kind"]:
        case "serving_tune":
            text = f"best: {Setting(**new['best'])}"
        case "serving_versus":
            ours, theirs = new["ours"], new["theirs"]
            text = (
                f"{rate(ours['rows_per_s'])}, LitServe {rate(theirs['rows_per_s'])}: "
                f"{tables.ratio(new, 'throughput')} times; p99 {time(ours['p99_ms'])}, "
                f"LitServe {time(theirs['p99_ms'])}: {tables.ratio(new, 'p99')} times; LitServe's "
                f"means within {new['deviation']['rms_standard_errors']:.3f} standard errors"
            )
        case "serving_mixed":
            text = (
                f"p99 {time(new['alone']['p99_ms'])} alone, {time(new['beside']['p99_ms'])} beside "
                f"a large one: {tables.ratio(new, 'p99_ratio')} times"
            )
        case "serving_overload":
            text = (
                f"capacity {rate(new['capacity_rows_per_s'])}, then {new['rate']:.0f}/s: "
                f"{new['statuses']}, back in {new['recovered_s']} s, "
                f"peak {new['memory']['peak_mib']:.0f} MiB"
            )
        case "serving_soak":
            memory = new["memory"]
            text = (
                f"{new['valid']}, bad {new['bad']}, {new['hung_up']} hung up, {new['killed']} "
                f"killed, {new['reloads']} reloads {new['answered_by']}, "
                f"{memory['slope_mib_per_minute']:+.2f} ± {memory['slope_error']:.2f} MiB a "
                f"minute, exit code {new['exit_code']}"
            )
        case _:
            text = ", ".join(f"{side} up to {rate(top)}" for side, top in new["capacity"].items())
    problems = [*new.get("reasons", ()), *new.get("failures", ())]
    checked = f"; {new['checked']:,} answers checked" if "checked" in new else ""
    marks = "".join(f"\n{'':10}FAILED: {problem}" for problem in problems)
    return f"{title}{text}{checked}{marks}"


def rate(value: float) -> str:
    """Rows a second."""
    return f"{tables.number(value)} rows/s"


def time(milliseconds: float | None) -> str:
    """A latency; nothing where there was no answer."""
    return "" if milliseconds is None else tables.milliseconds(milliseconds / 1000)
