"""Mixed: does a request of 5,000 samples make those of 16 wait?"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.record import Record
from benchmarks.serving import check, nets, servers
from benchmarks.serving.figures import figures, percentiles, spread
from benchmarks.serving.load import Outcome, Run, Stream, run
from benchmarks.serving.questions import ask, encoded
from benchmarks.serving.stage import Place

LARGE, SMALL = 5000, 16
_SETTLE = 1.0  # seconds for which the large request runs before the small ones come


def measure(name: str, place: Place, *, rate: float, seconds: float, rounds: int) -> Record:
    """The latency of small requests alone, and beside a large one, turn by turn.

    Small ones come as a Poisson process of `rate`, the same times in both halves of a round; the
    large one is asked again as soon as it is answered.
    """
    rows = nets.rows(name)
    questions = {"small": ask(name, rows, SMALL), "large": ask(name, rows[:8], LARGE)}
    sides: dict[str, list[Run]] = {"alone": [], "beside": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        nets.publish(name, place.models, root)
        with servers.mcdrop_server(root) as server:

            def send(*, beside: bool, seed: int) -> Run:
                length = seconds + _SETTLE
                small = Stream(
                    "small",
                    server.port,
                    encoded(questions["small"]),
                    seconds,
                    rate=rate,
                    begin=_SETTLE,
                    seed=seed,
                )
                large = Stream("large", server.port, encoded(questions["large"]), length, clients=1)
                return run([small, large] if beside else [small])

            send(beside=True, seed=0)  # warms up
            for number in range(rounds):
                for side, kept in sides.items():
                    kept.append(send(beside=side == "beside", seed=number))
        library = check.Library(root)
        runs = [one for kept in sides.values() for one in kept]
        wrong = [
            bad
            for one in runs
            for stream, asked in questions.items()
            for bad in check.wrong(one.of(stream), asked, library)
        ]
    large = [outcome for one in sides["beside"] for outcome in one.of("large")]
    return {
        "workload": name,
        "title": nets.build(name, place.models).title,
        "rate": rate,
        "seconds": seconds,
        **spread(_ratios(sides), "p99_ratio"),
        **{side: _summary(kept, seconds) for side, kept in sides.items()},
        "large": percentiles([o.done - o.sent for o in large if o.status == 200]),
        "checked": sum(o.status == 200 for one in runs for o in one.outcomes),
        "wrong": len(wrong),
        "reasons": sorted({bad.reason for bad in wrong})[:5],
    }


def _ratios(sides: dict[str, list[Run]]) -> list[float]:
    """p99 beside a large request, over p99 alone, of each round."""
    found = []
    for alone, beside in zip(sides["alone"], sides["beside"], strict=True):
        over, under = (_latencies(one.of("small")) for one in (beside, alone))
        if over and under:
            found.append(percentiles(over)["p99_ms"] / percentiles(under)["p99_ms"])
    if not found:
        raise RuntimeError("no small request was answered with 200: nothing to compare")
    return found


def _summary(runs: list[Run], seconds: float) -> Record:
    """All rounds together: a p99 of one round rests on few requests."""
    small = [outcome for one in runs for outcome in one.of("small")]
    total = figures(small, float("-inf"), float("inf"), closed=False)
    answered = len(_latencies(small))
    return total | {"rows_per_s": answered / (seconds * len(runs))}


def _latencies(outcomes: list[Outcome]) -> list[float]:
    return [outcome.done - outcome.due for outcome in outcomes if outcome.status == 200]
