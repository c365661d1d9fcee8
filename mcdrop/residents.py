"""Residents: rows of many callers that stay between steps, each taking the samples it needs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mcdrop.engine import Cohort, Planner, Prepared, Trunk
from mcdrop.estimate import RaggedEstimator
from mcdrop.prediction import Prediction, joined
from mcdrop.program import TensorSpec
from mcdrop.program.schema import checked, dtype_of
from mcdrop.sampling import BLOCK

_TRUNKS = 64  # shapes of input whose layouts are remembered
_TRIED_SAMPLES = 128  # at a time, at most, when a number of rows is warmed up

Shape = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Party:
    """Rows that come together: one caller's, all of one shape.

    Attributes:
        inputs: checked tensors by name, on the device; see `Residency.check`.
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

    def enter(self, prepared: Prepared, party: Party) -> Guest:
        """Take in a party that has been through the trunk."""
        slots = self._cohort.enter(prepared, party.numbers)
        return Guest(self, slots, list(range(party.rows)))

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


class Residency:
    """What a server keeps of a model between requests: rows enter, are stepped, and leave.

    The samples that a row gets are those of `MCDropout.predict` with its seed, whatever rows it is
    beside and in whatever order it takes its blocks of 16 samples.

    Args:
        planner: of the model.
        specs: of its inputs.
        estimate: makes an empty estimator.
        finished: what is done to a prediction before it is handed out.
        seed: the one that most rows share; masks of others are not kept.
        first_look: after how many samples a tolerance is looked at first.
    """

    def __init__(
        self,
        planner: Planner,
        specs: Sequence[TensorSpec],
        estimate: Callable[[], RaggedEstimator],
        finished: Callable[[Prediction], Prediction],
        seed: int,
        *,
        first_look: int,
    ) -> None:
        self.first_look = first_look
        self._planner = planner
        self._specs = specs
        self._estimate = estimate
        self._finished = finished
        self.seed = seed
        self._trunks: dict[Shape, Trunk] = {}
        self._residents: dict[tuple[Shape, int], Residents] = {}

    def check(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs on the device.

        Raises:
            InputError: they do not fit the model.
        """
        return checked(self._specs, inputs, self._planner.program.device)

    def most_rows(self, party: Party, limit: int) -> int:
        """How many rows of a party fit a step, at most `limit`."""
        return self._trunk(party).most_rows(limit)

    @property
    def other_seeds(self) -> int:
        """How many residents there are with another seed than the one that most share."""
        return sum(seed != self.seed for _, seed in self._residents)

    def enter(self, parties: Sequence[Party]) -> list[Guest]:
        """Take in parties of one shape, by one pass through the trunk.

        Raises:
            InputError: an input is outside of what the model can look up; nobody has entered.
        """
        trunk = self._trunk(parties[0])
        inputs = parties[0].inputs
        if len(parties) > 1:
            names = list(inputs)
            inputs = {name: torch.cat([party.inputs[name] for party in parties]) for name in names}
        prepared = trunk(inputs)
        guests, first = [], 0
        for party in parties:
            part = prepared.rows(slice(first, first + party.rows))
            guests.append(self._with(party).enter(part, party))
            first += party.rows
        return guests

    def tidy(self) -> None:
        """Forget residents that are none any more; those with the common seed are kept."""
        gone = [key for key, held in self._residents.items() if not len(held)]
        for key in gone:
            if key[1] != self.seed or len(self._residents) > _TRUNKS:
                del self._residents[key]

    def warm(self, rows: int, samples: int) -> None:
        """Plan for so many rows, of zeros, and sample them once.

        Raises:
            InputError: zeros are not what the model can look up.
        """
        zeros = {
            spec.name: torch.zeros((rows, *spec.smallest()), dtype=dtype_of(spec.dtype))
            for spec in self._specs
        }
        party = Party(self.check(zeros), self.seed, range(rows))
        self._planner.plan(party.inputs, _TRIED_SAMPLES, self.seed)
        guest = self.enter([party])[0]
        try:
            for start in range(0, samples, _TRIED_SAMPLES):
                guest.residents.step([guest], start, [min(samples, start + _TRIED_SAMPLES)])
            guest.residents.predictions([guest])
        finally:
            guest.residents.leave(guest)

    def _with(self, party: Party) -> Residents:
        key = party.shape, party.seed
        if key not in self._residents:
            self._residents[key] = Residents(
                self._trunk(party),
                self._estimate(),
                party.seed,
                repeated=party.seed == self.seed,
                finished=self._finished,
            )
        return self._residents[key]

    def _trunk(self, party: Party) -> Trunk:
        shape = party.shape
        if shape not in self._trunks:
            while len(self._trunks) >= _TRUNKS:
                del self._trunks[next(iter(self._trunks))]
            self._trunks[shape] = Trunk(self._planner, party.inputs)
        return self._trunks[shape]


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
