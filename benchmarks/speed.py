"""Time of a Monte Carlo prediction on every side, interleaved in one run.

Once with one call a turn, so that each finds the caches as another side left them, and once call
after call. Ratios are of times of one round; medians, min and max are over the rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence

from benchmarks import coverage, peak, peers, rounds, sides, workloads
from benchmarks.record import Record
from benchmarks.rounds import DETERMINISTIC, FRESH, LOOP, WARM, Timing
from benchmarks.sides import Side
from benchmarks.workloads import Workload

# Each side in its turn is asked again for so long, so many times.
_STEADY_S, _STEADY_ROUNDS = 0.05, 5


def measure(name: str, repeats: int = 5, device: str = "cpu", rate: float | None = None) -> Record:
    """Time every side on a workload.

    Args:
        name: of the workload.
        repeats: how often each side is timed.
        device: `"cpu"` or `"cuda"`.
        rate: the machine's peak in FLOP/s; measured if not given.
    """
    work = workloads.build(name, device)
    ours, mc = sides.ours(work)
    every = [sides.deterministic(work), *ours, *_others(work)]
    timings = rounds.run(every, work, repeats)
    steady = rounds.run(every, work, _STEADY_ROUNDS, _STEADY_S)
    plain = workloads.build(name)  # on the CPU, where everything can be counted
    drawn = {
        side.label: coverage.draws(side.run, plain.x)
        for side in _others(plain)
        if not timings[side.label].error
    }
    rows = compare(timings, drawn, work.samples)
    needed = peak.flops(plain.module, plain.x)
    rate = peak.measure(device) if rate is None else rate
    seconds = timings[WARM].median
    return {
        "workload": name,
        "title": work.title,
        "samples": work.samples,
        "rows": work.x.shape[0],
        "rounds": repeats,
        "engine": str(mc.plan.engine),
        "plan": str(mc.plan),
        "deterministic_s": timings[DETERMINISTIC].median,
        "mcdrop_s": seconds,
        "fresh_s": timings[FRESH].median,
        "loop_s": timings[LOOP].median,
        **_spread("passes", timings[WARM], timings[DETERMINISTIC]),
        **_spread("fresh_passes", timings[FRESH], timings[DETERMINISTIC]),
        **_spread("faster_than_loop", timings[LOOP], timings[WARM]),
        **_best(timings, rows),
        **_steady(steady, {row["label"] for row in rows if not row["note"]}),
        "flops": needed,
        "peak_flops_per_s": rate,
        "dense_flops_fraction": work.samples * needed / seconds / rate,
        "sides": rows,
    }


def compare(timings: Mapping[str, Timing], drawn: Mapping[str, int], samples: int) -> list[Record]:
    """Each other Monte Carlo side: time, ratio to mcdrop, and what it misses."""
    truth = timings[LOOP]
    rows: list[Record] = []
    for label, timing in timings.items():
        if label in {DETERMINISTIC, WARM, FRESH}:
            continue
        row: Record = {"side": timing.side.name, "variant": timing.side.variant, "label": label}
        if timing.error:
            rows.append({**row, "seconds": None, "note": timing.error})
            continue
        variance = statistics.mean(timing.variances) / statistics.mean(truth.variances)
        # two means of n samples each differ by sqrt(2 variance / n)
        error = math.sqrt(2.0 * statistics.mean(truth.variances) / samples)
        offset = statistics.mean(timing.offsets) / error
        share = drawn[label] / drawn[LOOP]
        row |= {
            "seconds": timing.median,
            **_spread("ratio", timing, timings[WARM]),
            "draws_share": share,
            "variance_share": variance,
            "mean_offset": offset,
            "note": coverage.note(share, variance, offset),
        }
        rows.append(row)
    return rows


def _best(timings: Mapping[str, Timing], rows: Sequence[Record]) -> Record:
    """The fastest side that misses nothing, and the fastest of all that run."""
    ran = [row for row in rows if row["seconds"] is not None]
    fastest = min(ran, key=lambda row: float(row["ratio"]))
    best = min((row for row in ran if not row["note"]), key=lambda row: float(row["ratio"]))
    return {
        "best": best["label"],
        **_spread("faster_than_best", timings[best["label"]], timings[WARM]),
        **_spread("fresh_faster_than_best", timings[best["label"]], timings[FRESH]),
        "fastest": fastest["label"],
        **_spread("faster_than_fastest", timings[fastest["label"]], timings[WARM]),
    }


def _steady(timings: Mapping[str, Timing], right: Collection[str]) -> Record:
    """Call after call: what each side takes when it has the machine's caches to itself.

    Args:
        timings: of that.
        right: labels of the other sides that miss nothing.
    """
    best = min(right, key=lambda label: timings[label].median)
    return {
        "steady_deterministic_s": timings[DETERMINISTIC].median,
        "steady_s": timings[WARM].median,
        "steady_fresh_s": timings[FRESH].median,
        "steady_best": best,
        **_spread("steady_passes", timings[WARM], timings[DETERMINISTIC]),
        **_spread("steady_faster_than_best", timings[best], timings[WARM]),
        **_spread("steady_fresh_faster_than_best", timings[best], timings[FRESH]),
    }


def _spread(name: str, slow: Timing, fast: Timing) -> Record:
    """Median, min and max over the rounds of how many times faster."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {
        name: statistics.median(ratios),
        f"{name}_min": min(ratios),
        f"{name}_max": max(ratios),
    }


def _others(work: Workload) -> list[Side]:
    return [*sides.naive(work), *peers.build(work)]
