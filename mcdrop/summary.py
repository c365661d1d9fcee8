"""Rows while they are sampled: what their samples say so far, and which rows are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from mcdrop.engine import Job, Sampler
from mcdrop.estimate import Estimator
from mcdrop.prediction import Prediction, joined
from mcdrop.program.site import Law
from mcdrop.sampling import BLOCK

MIN_BLOCKS = 4  # fewer block means do not tell their own spread
# Rows that are done stay in the batch until they are so many of it: to leave, the trunk of those
# that go on is computed again.
_LEAVING = 0.25

Open = Callable[[list[int]], Sampler]
Progress = Callable[[int, int], None]


def first_look(laws: Iterable[Law]) -> int:
    """After how many samples a tolerance is looked at first: when nothing is too rare to be seen.

    Example:
        >>> first_look([Law("bernoulli", 0.5)]), first_look([Law("bernoulli", 0.01)])
        (64, 112)
    """
    rates = [min(law.p, 1.0 - law.p) for law in laws if law.kind == "bernoulli"]
    rarest = min((rate for rate in rates if rate > 0.0), default=1.0)
    return max(MIN_BLOCKS, math.ceil(1 / (rarest * BLOCK))) * BLOCK


class Summary:
    """Folds samples of some rows into a prediction, and stops each row by its tolerance.

    Which samples a row uses does not depend on chunks or on the rows beside it: the tolerance is
    looked at after each block of 16 samples, from the fourth on, and not before every unit can have
    been dropped once: samples in which nothing rare happened tell nothing of it.

    Args:
        rows: positions of the rows in the caller's batch.
        estimate: an empty estimator.
        open_rows: makes a sampler of some of the rows.
        tolerance: root mean square error of the mean that is small enough; `None` for all samples.
        first: after how many samples it is looked at first, see `first_look`.
    """

    def __init__(
        self,
        rows: range,
        estimate: Estimator,
        open_rows: Open,
        tolerance: float | None = None,
        first: int = MIN_BLOCKS * BLOCK,
    ) -> None:
        self._rows = rows
        self._estimate = estimate
        self._open = open_rows
        self._tolerance = tolerance
        self._first_look = first
        self._active = list(rows)  # rows that go on, by position
        self._sampled: list[int] = []  # rows of the sampler, some of which may be done
        self._sampler: Sampler | None = None
        self._done: list[tuple[list[int], Prediction]] = []

    @property
    def finished(self) -> bool:
        """Whether every row is done."""
        return not self._active

    def extend(self, start: int, stop: int, progress: Callable[[int], None] | None = None) -> None:
        """Take samples `start` to `stop - 1` of the rows that go on.

        Args:
            start: number of the first sample; those before it were taken.
            stop: number behind the last one.
            progress: called after each chunk with the samples taken so far.
        """
        while start < stop and self._active:
            sampler = self._ready()
            # no further than the first look at the tolerance, or rows would go on that are done
            near = start - start % self._first_look + self._first_look
            limit = stop if self._tolerance is None else min(stop, near)
            chunk = next(sampler.chunks(start, limit))
            self._fold(sampler.samples(chunk), chunk)
            start = chunk.stop
            if progress is not None:
                progress(start)

    def release(self) -> None:
        """Let go of the sampler and the trunk that it holds; a later `extend` makes a new one."""
        self._sampler = None

    def prediction(self) -> Prediction:
        """What the samples so far say, in the order of the rows."""
        parts = list(self._done)
        if self._active:
            with torch.no_grad():
                parts.append((self._active, self._estimate.prediction()))
        if len(parts) == 1:
            return parts[0][1]
        order = [row for rows, _ in parts for row in rows]
        places = torch.tensor(order).argsort()
        whole = joined([part for _, part in parts])
        return whole.rows(places.to(whole.samples.device))

    def _ready(self) -> Sampler:
        left = 1.0 - len(self._active) / max(1, len(self._sampled))
        if self._sampler is None or left >= _LEAVING:
            self._sampler = None  # before the next one, or two trunks would be alive
            self._sampled = list(self._active)
            self._sampler = self._open(self._sampled)
        return self._sampler

    def _fold(self, outputs: tuple[Tensor, ...], chunk: range) -> None:
        if self._tolerance is None:
            with torch.no_grad():
                self._estimate.update(outputs, chunk.start)
            return
        first = chunk.start
        while first < chunk.stop and self._active:
            last = min(chunk.stop, first - first % BLOCK + BLOCK)
            part = tuple(output[first - chunk.start : last - chunk.start] for output in outputs)
            if len(self._active) < len(self._sampled):
                places = {row: place for place, row in enumerate(self._sampled)}
                going = torch.tensor([places[row] for row in self._active]).to(part[0].device)
                part = tuple(output.index_select(1, going) for output in part)
            with torch.no_grad():
                self._estimate.update(part, first)
                if last % BLOCK == 0 and last >= self._first_look:
                    self._retire(self._tolerance)
            first = last

    def _retire(self, tolerance: float) -> None:
        """Set aside the rows whose mean is known well enough."""
        errors = self._estimate.expected_error()
        errors = errors.reshape(len(errors), -1).amax(1)
        done = (errors <= tolerance).cpu()  # the host decides who leaves: one look a block
        if not done.any():
            return
        leaving = torch.nonzero(done).flatten()
        settled = self._estimate.prediction().rows(leaving.to(errors.device))
        flags = done.tolist()
        rows = [row for row, flag in zip(self._active, flags, strict=True) if flag]
        self._done.append((rows, settled))
        self._active = [row for row, flag in zip(self._active, flags, strict=True) if not flag]
        self._estimate.keep(torch.nonzero(~done).flatten().to(errors.device))


def summarised(
    job: Job, new: Callable[[Job, range], Summary], progress: Progress | None = None
) -> Prediction:
    """Predict every row, as many at a time as the plan has.

    Args:
        job: what to predict.
        new: an empty summary of some of its rows.
        progress: told (done, total) in row-samples after each chunk.
    """
    parts = []
    for rows in job.row_chunks():

        def report(done: int, rows: range = rows) -> None:
            if progress is not None:
                progress(rows.start * job.samples + len(rows) * done, job.rows * job.samples)

        summary = new(job, rows)
        summary.extend(0, job.samples, report)
        if summary.finished:
            report(job.samples)
        parts.append(summary.prediction())
        del summary  # or its trunk would be held while the next one is made
    return joined(parts)


def partials(job: Job, new: Callable[[Job, range], Summary]) -> Iterator[Prediction]:
    """A prediction of every row after each block of samples; arguments as for `summarised`."""
    summaries = [new(job, rows) for rows in job.row_chunks()]
    for start in range(0, job.samples, BLOCK):
        for summary in summaries:
            summary.extend(start, min(start + BLOCK, job.samples))
            if len(summaries) > 1:
                summary.release()  # or memory would grow with the rows
        yield joined([summary.prediction() for summary in summaries])
        if all(summary.finished for summary in summaries):
            return
