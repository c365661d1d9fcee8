"""`python -m benchmarks.serving`: measure the server, show as it goes, and write JSON lines.

`--only` takes parts of: tune (LitServe's best settings, used by those after it), mlp and digits
(beside LitServe), mixed, overload, soak, rates. The records of the other parts stay in the file.
`python -m benchmarks.serving.document` then writes docs/serving-benchmarks.md. `MCDROP_…` in the
environment set mcdrop's server. Ends with 1 if an answer was wrong or something failed that an
operator would not accept.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import record
from benchmarks.__main__ import choices
from benchmarks.record import Record
from benchmarks.serving import mixed, nets, overload, rates, soak, tuning, versus
from benchmarks.serving.servers import ROOT
from benchmarks.serving.stage import Place
from benchmarks.serving.summary import shown

PARTS = ("tune", *nets.NAMES, "mixed", "overload", "soak", "rates")
RESULTS = record.RESULTS / "serving.jsonl"
_NEED_PEERS = {"tune", *nets.NAMES, "rates"}
_PACKAGES = ("litserve", "fastapi", "uvicorn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts that are asked for; each record is written as soon as it is there."""
    parser = _parser()
    options = parser.parse_args(arguments)
    place = Place(options.models, options.peers)
    if not (place.models / "digits" / "1").is_dir():
        parser.error(f"no demo models in {place.models}: make them with `make models`")
    if _NEED_PEERS & set(options.only) and not place.peers.exists():
        parser.error(f"there is no {place.peers}: `make .venv-peers/.installed` installs LitServe")
    # an exit runs what stops the servers, which a signal's default does not
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stamp = _stamp(place)
    records = record.read(options.output)
    start, failed = time.monotonic(), False
    for new in _measured(options, place, records):
        print(f"[{time.monotonic() - start:5.0f} s] {shown(new)}", flush=True)
        assert not new.keys() & stamp.keys()
        records[:] = record.merged(records, [{**new, **stamp}])
        record.write(options.output, records)
        failed |= bool(new.get("wrong") or new.get("failures"))
    print(f"written to {options.output}")
    return int(failed)


def _measured(
    options: argparse.Namespace, place: Place, records: Sequence[Record]
) -> Iterator[Record]:
    """Record after record; `records` grows meanwhile, so that tuning is used at once."""
    only, seconds, rounds = options.only, options.seconds, options.rounds
    clients: int = options.clients
    if "tune" in only:
        for name in options.nets:
            found = tuning.measure(name, place, clients=clients, seconds=seconds)
            yield {"kind": "serving_tune", **found}
    for name in nets.NAMES:
        if name in only:
            setting = tuning.best(records, name)
            found = versus.measure(
                name, place, setting, clients=clients, seconds=seconds, rounds=rounds
            )
            yield {"kind": "serving_versus", **found}
    if "mixed" in only:
        for name in options.nets:
            rate = options.small_rate
            # twice as long: few requests come, and p99 is of the slowest
            found = mixed.measure(name, place, rate=rate, seconds=2 * seconds, rounds=rounds)
            yield {"kind": "serving_mixed", **found}
    if "overload" in only:
        for name in options.nets:
            length = options.overload_seconds
            found = overload.measure(name, place, clients=clients, seconds=length)
            yield {"kind": "serving_overload", **found}
    if "soak" in only:
        found = soak.measure(place, minutes=options.minutes, reload_every=options.reload)
        yield {"kind": "serving_soak", **found}
    if "rates" in only:
        for name in options.nets:
            setting = tuning.best(records, name)
            found = rates.measure(name, place, setting, clients=clients, seconds=seconds)
            yield {"kind": "serving_rates", **found}


def _stamp(place: Place) -> Record:
    """As everywhere, with the versions of what serves, and the server's settings."""
    stamp = record.stamp("cpu", "benchmarks.serving")
    script = f"from importlib.metadata import version\nfor n in {_PACKAGES!r}: print(version(n))"
    if place.peers.exists():
        command = [str(place.peers), "-c", script]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        stamp["versions"] |= dict(zip(_PACKAGES, output.split(), strict=True))
    stamp["server"] = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("MCDROP_") and "KEY" not in name
    }
    return stamp


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    add("--only", type=choices(PARTS), default=PARTS, help=", ".join(PARTS))
    add(
        "--nets",
        type=choices(nets.NAMES),
        default=nets.NAMES,
        help="for tune, mixed, overload and rates: " + ", ".join(nets.NAMES),
    )
    add("--seconds", type=float, default=10.0, help="of a round, or of a rate")
    add("--rounds", type=int, default=5, help="how often each side has its turn")
    add("--clients", type=int, default=32, help="of a closed loop, with one row each")
    add("--small-rate", type=float, default=10.0, help="mixed: requests of 16 samples a second")
    add("--overload-seconds", type=float, default=60.0, help="of three times the capacity")
    add("--minutes", type=float, default=10.0, help="of the soak")
    add("--reload", type=float, default=0.0, help="soak: seconds between reloads, 0 for none")
    add("--models", type=Path, default=ROOT / "models", help="the demo models")
    add(
        "--peers",
        type=Path,
        default=ROOT / ".venv-peers" / "bin" / "python",
        help="the Python that has LitServe",
    )
    add("--output", type=Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
