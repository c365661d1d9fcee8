"""The paper's protocol and ours: which nets are tried, how one is chosen, how it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from benchmarks.uci import stage
from benchmarks.uci.layout import UciSet
from benchmarks.uci.nets import Net, Result, trained
from benchmarks.uci.train import Progress

PAPER_MULTIPLE = 100  # of the epochs in the set's file: "convergence", as published
SAMPLES = 10_000
_CHOICE_SAMPLES = 1_000  # of ours, while choosing

# Makes a function to tell (done, total) nets, given what is being done.
Told = Callable[[str], Progress]

# Prior length scales: of the paper's code, and ours (on standardised inputs, outputs and weights).
_PAPER_LENGTH, _OUR_LENGTH = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a set is gone through.

    Attributes:
        name: for records and documents.
        grid: the nets of a split that are tried, given the set, the split and its training rows.
        samples: of each prediction while choosing.
    """

    name: str
    grid: Callable[[UciSet, int, int, int], list[Net]]
    samples: int


def published_grid(uci: UciSet, split: int, rows: int, epochs: int) -> list[Net]:
    """Squared error, every rate and noise precision of the set's files.

    Args:
        uci: the set.
        split: whose nets.
        rows: that they are trained on.
        epochs: of training.
    """
    return [
        Net(
            split=split,
            rate=p,
            decay=_PAPER_LENGTH**2 * (1.0 - p) / (2.0 * rows * tau),
            epochs=(epochs,),
            noise=tau**-0.5,
            outputs=1,
            hidden=uci.hidden,
        )
        for p in uci.rates
        for tau in uci.taus
    ]


def our_grid(uci: UciSet, split: int, rows: int, epochs: int) -> list[Net]:
    """Mean and log-variance, every rate of the set's files, stopped after 1/8, 1/4, 1/2 or all.

    The noise is predicted for each row, so that no precision has to be sought. Arguments as for
    `published_grid`.
    """
    marks = sorted({max(1, epochs // part) for part in (8, 4, 2, 1)})
    return [
        Net(
            split=split,
            rate=p,
            decay=_OUR_LENGTH**2 * (1.0 - p) / (2.0 * rows),
            epochs=tuple(marks),
            noise=1.0,
            outputs=2,
            hidden=uci.hidden,
        )
        for p in uci.rates
    ]


PUBLISHED = Protocol("published", published_grid, SAMPLES)
OURS = Protocol("defaults", our_grid, _CHOICE_SAMPLES)


def run(
    uci: UciSet,
    protocol: Protocol,
    pool: Executor,
    *,
    multiple: int = PAPER_MULTIPLE,
    samples: int = SAMPLES,
    progress: Told | None = None,
) -> list[Result]:
    """Choose a net for each split by its validation rows, train it on all of them, and test it.

    Args:
        uci: the set.
        protocol: which.
        pool: what to compute with.
        multiple: of the epochs in the set's file.
        samples: of each prediction on test rows, and the most of one while choosing.
        progress: see `Told`.

    Returns:
        The tested net of each split, in their order.
    """
    epochs = uci.epochs * multiple
    told = progress or _silent
    held = stage.validation(uci)
    tried = [
        net
        for split, part in enumerate(held)
        for net in protocol.grid(uci, split, len(part.x), epochs)
    ]
    fewer = min(samples, protocol.samples)
    found = trained(tried, held, pool, samples=fewer, progress=told("choosing"))
    chosen = best(found)
    tested = stage.test(uci)
    again = [
        refitted(result, protocol.grid(uci, result.net.split, len(part.x), epochs))
        for result, part in zip(chosen, tested, strict=True)
    ]
    results = trained(again, tested, pool, samples=samples, seed=1000, progress=told("testing"))
    return sorted(results, key=lambda result: result.net.split)


def best(results: Iterable[Result]) -> list[Result]:
    """The result of the highest log-likelihood for each split, in their order."""
    found: dict[int, Result] = {}
    for result in results:
        known = found.get(result.net.split)
        if known is None or result.log_likelihood > known.log_likelihood:
            found[result.net.split] = result
    return [found[split] for split in sorted(found)]


def refitted(chosen: Result, grid: Sequence[Net]) -> Net:
    """The net of a grid for more rows that is the chosen one, trained for as many epochs."""
    (same,) = [net for net in grid if (net.rate, net.noise) == (chosen.net.rate, chosen.net.noise)]
    return replace(same, epochs=(chosen.epochs,))


def _silent(_what: str) -> Progress:
    return lambda _done, _total: None
