"""Residents: rows of many callers that stay between steps, each taking the samples it needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from mcdrop.engine import Cohort, Prepared, Trunk
from mcdrop.estimate import RaggedEstimator
from mcdrop.prediction import Prediction, joined
from mcdrop.sampling import BLOCK

Shape = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Party:
    """Rows that come together: one caller's, all of one shape.

    Attributes:
        inputs: checked tensors by name, on the device; see `mcdrop.residency.Residency.check`.
        seed: of their masks.
        numbers: of the rows in their caller's batch, the keys of independent masks.
    """

    inputs: Mapping[str, Tensor]
    seed: int
    numbers: Sequence[int]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.numbers)

    @property
    def shape(self) -> Shape:
        """Of the inputs, the rows left out."""
        return tuple(tuple(tensor.shape[1:]) for tensor in self.inputs.values())


@dataclass(slots=True, eq=False)
class Guest:
    """A party that has entered.

    Attributes:
        residents: whom it is with.
        slots: of the rows that are still sampled.
        positions: of those rows in the party.
        settled: positions and predictions of the rows that are done.
    """

    residents: Residents
    slots: list[int]
    positions: list[int]
    settled: list[tuple[list[int], Prediction]] = field(default_factory=list)


class Residents:
    """Rows of one model that share masks: one seed, one shape of input.

    Args:
        trunk: what the rows have come through.
        estimate: an empty estimator.
        seed: of the masks.
        repeated: whether the seed comes again and again, so that what is made of it is kept.
        finished: what is done to a prediction before it is handed out: calibration.

    Attributes:
        kind: equal for residents whose steps cost the same.
    """

    def __init__(
        self,
        trunk: Trunk,
        estimate: RaggedEstimator,
        seed: int,
        *,
        repeated: bool,
        finished: Callable[[Prediction], Prediction],
    ) -> None:
        self.kind: Hashable = (trunk.shape, repeated)
        self._cohort = Cohort(trunk, seed, repeated=repeated)
        self._estimate = estimate
        self._finished = finished
        self._device = trunk.planner.program.device

    def __len__(self) -> int:
        """How many rows are resident."""
        return len(self._cohort)

    def enter(self, prepared: Prepared, parties: Sequence[Party]) -> list[Guest]:
        """Take in parties that have been through the trunk together."""
        numbers = [number for party in parties for number in party.numbers]
        slots = iter(self._cohort.enter(prepared, numbers))
        return [
            Guest(self, list(islice(slots, party.rows)), list(range(party.rows)))
            for party in parties
        ]

    @torch.no_grad()
    def step(self, guests: Sequence[Guest], start: int, stops: Sequence[int]) -> None:
        """Take samples for the rows of some guests.

        Args:
            guests: of these residents.
            start: number of the first sample, where a block begins.
            stops: for each guest, the number behind its last sample: where a block ends, or where
                the guest's samples do.
        """
        slots = [slot for guest in guests for slot in guest.slots]
        groups = self._groups(guests, stops)
        for chunk, outputs in _whole_blocks(self._cohort.samples(slots, range(start, max(stops)))):
            for stop, places, index in groups:
                wanted = min(stop, chunk.stop) - chunk.start
                if wanted <= 0:
                    continue
                part = outputs
                if wanted < len(chunk):
                    part = tuple(output[:wanted] for output in part)
                if places is not None:
                    part = tuple(output.index_select(1, places) for output in part)
                self._estimate.update(part, index, self._cohort.room)

    def expected_errors(self, guest: Guest) -> Tensor:
        """Of each row of a guest, the largest over its outputs, `[B]`; see `MCDropout.predict`."""
        errors = self._estimate.expected_error(self._index(guest.slots))
        return errors.reshape(len(errors), -1).amax(1)

    def settle(self, guest: Guest, done: Sequence[bool]) -> None:
        """Set aside what is known of some rows of a guest, and let them go."""
        pairs = list(zip(guest.slots, guest.positions, done, strict=True))
        slots = [slot for slot, _, over in pairs if over]
        prediction = self._told(slots)
        guest.settled.append(([position for _, position, over in pairs if over], prediction))
        self._release(slots)
        guest.slots = [slot for slot, _, over in pairs if not over]
        guest.positions = [position for _, position, over in pairs if not over]

    def predictions(self, guests: Sequence[Guest]) -> list[Prediction]:
        """What is known of each guest's rows, in the order of the party; calibrated, on the CPU.

        Every row has at least one sample.
        """
        slots = [slot for guest in guests for slot in guest.slots]
        made: Prediction | None = None
        if slots:
            made = self._told(slots)
        answers, first = [], 0
        for guest in guests:
            last = first + len(guest.slots)
            parts = list(guest.settled)
            if made is not None and last > first:
                parts.append((guest.positions, made.part(first, last)))
            answers.append(_in_order(parts))
            first = last
        return answers

    def leave(self, *guests: Guest) -> None:
        """Let the rows of guests go."""
        self._release([slot for guest in guests for slot in guest.slots])
        for guest in guests:
            guest.slots, guest.positions = [], []

    def _told(self, slots: Sequence[int]) -> Prediction:
        # one copy to the host for all rows, which waits for the device
        return self._finished(self._estimate.prediction(self._index(slots))).to("cpu")

    def _release(self, slots: list[int]) -> None:
        self._estimate.clear(slots)
        self._cohort.leave(slots)

    def _groups(
        self, guests: Sequence[Guest], stops: Sequence[int]
    ) -> list[tuple[int, Tensor | None, Tensor]]:
        """Rows that take the same samples: where they end, places in the batch, and slots."""
        by_stop: dict[int, tuple[list[int], list[int]]] = {}
        place = 0
        for guest, stop in zip(guests, stops, strict=True):
            places, slots = by_stop.setdefault(stop, ([], []))
            places.extend(range(place, place + len(guest.slots)))
            slots.extend(guest.slots)
            place += len(guest.slots)
        alone = len(by_stop) == 1
        return [
            (stop, None if alone else self._index(places), self._index(slots))
            for stop, (places, slots) in by_stop.items()
        ]

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)


def _whole_blocks(
    chunks: Iterable[tuple[range, tuple[Tensor, ...]]],
) -> Iterator[tuple[range, tuple[Tensor, ...]]]:
    """Chunks put together until they end where a block does, or where the last one does."""
    held: list[tuple[range, tuple[Tensor, ...]]] = []
    for chunk, outputs in chunks:
        held.append((chunk, outputs))
        if chunk.stop % BLOCK == 0:
            yield _put_together(held)
            held = []
    if held:
        yield _put_together(held)


def _put_together(
    held: Sequence[tuple[range, tuple[Tensor, ...]]],
) -> tuple[range, tuple[Tensor, ...]]:
    if len(held) == 1:
        return held[0]
    outputs = zip(*(outputs for _, outputs in held), strict=True)
    return range(held[0][0].start, held[-1][0].stop), tuple(torch.cat(part) for part in outputs)


def _in_order(parts: Sequence[tuple[list[int], Prediction]]) -> Prediction:
    """The prediction of all rows, put together from parts that say which positions they are."""
    if len(parts) == 1 and parts[0][0] == sorted(parts[0][0]):
        return parts[0][1]
    order = torch.tensor([position for positions, _ in parts for position in positions]).argsort()
    return joined([prediction for _, prediction in parts]).rows(order)
