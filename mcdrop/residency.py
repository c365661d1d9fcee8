"""Residency: what a server keeps of a model between requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import torch
from torch import Tensor

from mcdrop.engine import Planner, Trunk
from mcdrop.estimate import RaggedEstimator
from mcdrop.prediction import Prediction
from mcdrop.program import TensorSpec
from mcdrop.program.schema import checked, dtype_of
from mcdrop.residents import Guest, Party, Residents, Shape

_TRUNKS = 64  # shapes of input whose layouts are remembered
_TRIED_SAMPLES = 128  # at a time, at most, when a number of rows is warmed up


class Residency:
    """Rows of one model: they enter, are stepped, and leave.

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
        guests: list[Guest] = []
        first = 0
        for _, group in groupby(parties, key=attrgetter("seed")):
            together = list(group)
            last = first + sum(party.rows for party in together)
            part = prepared.rows(slice(first, last))
            guests.extend(self._with(together[0]).enter(part, together))
            first = last
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
