"""`python -m benchmarks`: measure, show as it goes, and write JSON lines with what it ran on.

`--only speed,masks,metrics,memory,accuracy,sampling` and `--workloads` choose a part; the records
of the other parts stay in the file. `python -m benchmarks.report` then writes the documents.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from benchmarks import (
    accuracy,
    masks,
    memory,
    models,
    peak,
    peers,
    record,
    sampling,
    speed,
    streaming,
    tables,
)
from benchmarks.record import Record
from benchmarks.workloads import ALL, build

PARTS = ("speed", "masks", "metrics", "memory", "accuracy", "sampling")
# Small nets can be known better: what is left of the truth's own error does not matter then.
_TRUTHS = {"diabetes_mlp": 200_000, "uci_net": 200_000, "digits_mlp": 100_000}
_SEEDS = {"diabetes_mlp": 1000, "uci_net": 1000}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that are asked for; each record is written as soon as it is there."""
    options = _parser().parse_args(arguments)
    output = options.output or record.RESULTS / f"{options.device}.jsonl"
    if not peers.installed():
        print("the peers are not installed here: `make bench` sets up an environment with them")
    stamp = record.stamp(options.device)
    partial = (options.only, options.workloads) != (PARTS, tuple(ALL))
    records = record.read(output) if partial else []
    start = time.monotonic()
    for new in _measured(options):
        print(f"[{time.monotonic() - start:5.0f} s] {shown(new)}", flush=True)
        records = record.merged(records, [{**new, **stamp}])
        record.write(output, records)
    print(f"written to {output}")


def shown(new: Record) -> str:
    """A record in a line or a few, for a person who waits."""
    title = f"{new['kind']:9}{new.get('title', ''):46}"
    match new["kind"]:
        case "peak":
            text = f"{new['flops_per_s'] / 1e9:.0f} GFLOP/s of a matrix product"
        case "speed":
            others = ", ".join(
                f"{row['label']} " + (f"{row['ratio']:.2f}" if row["seconds"] else "fails")
                for row in new["sides"]
            )
            text = (
                f"{new['samples']} samples in {tables.milliseconds(new['mcdrop_s'])} "
                f"(new seed {tables.milliseconds(new['fresh_s'])}), {new['passes']:.1f} passes, "
                f"{new['faster_than_best']:.2f} × best ({new['best']})\n"
                f"{'':10}times mcdrop's: {others}\n{textwrap.indent(new['plan'], ' ' * 10)}"
            )
        case "memory":
            taken = ", ".join(f"{side} {mib:.0f} MiB" for side, mib in new["taken_mib"].items())
            text = f"{taken}"
        case "growth":
            text = f"10,000 samples take {new['ratio']:.3f} times the peak of 100"
        case "accuracy":
            iid, default, fresh, other = tables.to_accuracy(new)
            ours = f"iid {iid}; defaults {default}, new seed {fresh}"
            text = f"{ours}; {new['other']} {other}"
        case "metrics":
            text = f"summed in {new['summed_s']:.2f} s, ranked in {new['ranked_s']:.2f} s"
        case "masks":
            text = f"{new['rates']}"
        case _:
            gains = ", ".join(f"{row['samples']}: {row['mean_gain']:.1f}" for row in new["counts"])
            text = f"error² of the mean, iid / balanced: {gains}"
    return title + text


def _measured(options: argparse.Namespace) -> Iterator[Record]:
    if "speed" in options.only:
        rate = peak.measure(options.device)
        yield {"kind": "peak", "flops_per_s": rate}
        for name in options.workloads:
            yield {"kind": "speed", **speed.measure(name, options.rounds, options.device, rate)}
    if "masks" in options.only and options.device == "cpu":
        yield {"kind": "masks", "title": "nanoseconds an element", **masks.measure()}
    if "metrics" in options.only and options.device == "cpu":
        yield {"kind": "metrics", "title": "metrics of 1,000,000 rows", **streaming.measure()}
    if "memory" in options.only:
        for name in options.workloads:
            work = build(name)
            found = memory.measure(name, work.samples, options.device)
            yield {"kind": "memory", "title": work.title, **found}
        for name in memory.WORKLOADS:
            if name in options.workloads:
                found = memory.growth(name, device=options.device)
                yield {"kind": "growth", "title": build(name).title, **found}
    if "accuracy" in options.only:
        for trained in (models.digits_cnn(), models.uci_net(options.uci)):
            found = accuracy.measure(trained.to(options.device))
            yield {"kind": "accuracy", **found}
    if "sampling" in options.only:
        for trained in (
            models.diabetes_mlp(),
            models.uci_net(options.uci, rows=8),
            models.digits_mlp(),
            models.small_cnn(),
            models.small_lstm(),
            models.small_transformer(),
        ):
            truth = _TRUTHS.get(trained.name, 20_000)
            seeds = _SEEDS.get(trained.name, 200)
            found = sampling.measure(trained.to(options.device), seeds, truth)
            yield {"kind": "sampling", **found}


def choices(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """A reader of comma-separated names, each of which must be known; in the order of the known."""

    def read(text: str) -> tuple[str, ...]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"there is no {', '.join(unknown)}: choose from {', '.join(known)}"
            )
        return tuple(name for name in known if name in names)

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", type=choices(PARTS), default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--workloads", type=choices(ALL), default=tuple(ALL), help=", ".join(ALL))
    parser.add_argument("--rounds", type=int, default=9, help="how often each side is timed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="by default benchmarks/results/<device>.jsonl")
    parser.add_argument("--uci", type=Path, help="folder of a set, in the layout of the paper's")
    return parser


if __name__ == "__main__":
    main()
