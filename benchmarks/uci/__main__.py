"""`python -m benchmarks.uci --data DIR --sets NAME …`: run the protocols, and write JSON lines.

`python -m benchmarks.uci.document` then writes docs/uci.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import record
from benchmarks.record import Record
from benchmarks.uci import layout, protocols, ratio
from benchmarks.uci.layout import LayoutError, UciSet
from benchmarks.uci.nets import Result, workers
from benchmarks.uci.protocols import OURS, PUBLISHED, Protocol
from benchmarks.uci.train import Progress

RESULTS = record.RESULTS / "uci.jsonl"
_PROTOCOLS = {protocol.name: protocol for protocol in (PUBLISHED, OURS)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure; each record is written as soon as it is there."""
    options = _parser().parse_args(arguments)
    names = options.sets or sorted(path.parent.name for path in options.data.glob("*/data"))
    try:
        sets = [layout.read(options.data / name, options.splits) for name in names]
    except LayoutError as error:
        sys.exit(str(error))
    if not sets:
        sys.exit(f"{options.data}: expected folders with data/ in them, one for each set")
    stamp = record.stamp(module="benchmarks.uci")
    _write(options.output, {**ratio.measure(), **stamp})
    with workers() as pool:
        for uci in sets:
            for name in options.protocols:
                began = time.perf_counter()
                results = protocols.run(
                    uci,
                    _PROTOCOLS[name],
                    pool,
                    multiple=options.multiple,
                    samples=options.samples,
                    progress=_progress(uci.name, name),
                )
                new = summarised(uci, _PROTOCOLS[name], results)
                new |= {"samples": options.samples, "epochs": uci.epochs * options.multiple}
                new |= {"seconds": time.perf_counter() - began}
                print(shown(new), flush=True)
                _write(options.output, {**new, **stamp})
    print(f"written to {options.output}")


def _write(output: Path, new: Record) -> None:
    record.write(output, record.merged(record.read(output), [new]))


def summarised(uci: UciSet, protocol: Protocol, results: Sequence[Result]) -> Record:
    """Mean and standard error over the splits, and what each split was judged by."""
    figures: Record = {}
    for name in ("rmse", "log_likelihood"):
        values = [getattr(result, name) for result in results]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        figures |= {name: statistics.mean(values), f"{name}_error": error}
    return {
        "kind": "uci",
        "model": f"{uci.name}, {protocol.name}",
        "set": uci.name,
        "protocol": protocol.name,
        "rows": len(uci.y),
        "features": uci.x.shape[1],
        **figures,
        "splits": [
            {
                "rmse": result.rmse,
                "log_likelihood": result.log_likelihood,
                "rate": result.net.rate,
                "epochs": result.epochs,
                **({"tau": result.net.noise**-2} if result.net.outputs == 1 else {}),
            }
            for result in results
        ],
    }


def shown(new: Record) -> str:
    """A record in a line."""
    figures = [
        f"{title} {new[name]:.4f}"
        + (f" ± {new[name + '_error']:.4f}" if len(new["splits"]) > 1 else "")
        for name, title in (("rmse", "RMSE"), ("log_likelihood", "LL"))
    ]
    return f"{new['model']}: {', '.join(figures)} ({new['seconds']:.0f} s)"


def _progress(uci: str, protocol: str) -> protocols.Told:
    def told(what: str) -> Progress:
        began = time.perf_counter()

        def show(done: int, total: int) -> None:
            taken = time.perf_counter() - began
            left = taken / done * (total - done)
            line = f"{uci}, {protocol}, {what}: {done} of {total} nets, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)

        return show

    return told


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more; got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uci", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets' folders")
    parser.add_argument("--sets", nargs="*", help="their names; all that are there by default")
    parser.add_argument(
        "--protocols",
        nargs="*",
        choices=tuple(_PROTOCOLS),
        default=tuple(_PROTOCOLS),
        help="which; without a name, only what stacks bring is measured",
    )
    parser.add_argument("--splits", type=_positive, help="how many; all by default")
    parser.add_argument(
        "--multiple",
        type=_positive,
        default=protocols.PAPER_MULTIPLE,
        help="of the epochs in a set's file (default: %(default)s, as published)",
    )
    parser.add_argument(
        "--samples", type=_positive, default=protocols.SAMPLES, help="of a test prediction"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    main()
