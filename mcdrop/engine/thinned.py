"""The thinned engine: under a mask that all rows share, a network is a smaller network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mcdrop.engine.gather import Gathers
from mcdrop.engine.parts import Parts
from mcdrop.program.execute import Executable
from mcdrop.program.kernels import KERNELS
from mcdrop.program.leading import LEADING_KERNELS
from mcdrop.program.program import Program
from mcdrop.program.thinning import COPY_COST, Thinning, thin_tail
from mcdrop.sampling import MaskBank, Masks

_ZEROED = "thinned by zero weights: to copy what it keeps would cost more"


class ThinnedEngine:
    """Computes each sample as the smaller network that it is: without the units it drops.

    As `BatchedEngine`, it computes once what no site reaches. In the rest, the weights on either
    side of a site are gathered for each sample, with the rows and columns left out that the sample
    drops; sites between which nothing can be gathered keep their masks. Gathering takes about as
    long as the products of a hundred rows, so it pays for many rows, or where it is kept: it is,
    for the first samples of a seed (see `Gathers`).

    Args:
        program: what to sample.
        masks: only shared masks can be thinned.
        memory_budget: bytes; half of them may be kept.
        copy_cost: see `thin`.

    Attributes:
        masks: as above.
    """

    name = "thinned"

    def __init__(
        self,
        program: Program,
        masks: Masks,
        memory_budget: int,
        copy_cost: float = COPY_COST,
    ) -> None:
        self._program = program
        self.masks: Masks = masks
        self._budget = memory_budget
        self._copy_cost = copy_cost

    @property
    def applies(self) -> bool:
        """Whether some site can be thinned."""
        return self.masks == "shared" and bool(self.thinning.thinned)

    @property
    def reasons(self) -> Mapping[str, str]:
        """For each enabled site, by its name: `"thinned"`, how else, or why it keeps its mask."""
        sites = self._program.active
        if self.masks != "shared":
            return MappingProxyType({site.name: "each row has a mask of its own" for site in sites})
        zeroed = [site for site in sites if site.mask in self.thinning.zeroed]
        reasons = {site.name: _ZEROED for site in zeroed} | dict(self.thinning.reasons)
        return MappingProxyType({s.name: reasons.get(s.name, "thinned") for s in sites})

    @property
    def kept_samples(self) -> int:
        """Of how many samples gathered weights may be kept."""
        return self._gathers.kept_samples

    def gather_bytes(self, samples: int) -> int:
        """About how many bytes the gathered weights of so many samples take."""
        return self._gathers.expected_bytes(samples)

    def forget(self) -> None:
        """Give up what is kept, and the memory to gather into."""
        self._gathers.forget()

    def open(
        self,
        inputs: Mapping[str, Tensor],
        bank: MaskBank,
        rows: Sequence[int],
    ) -> ThinnedRun:
        """Run the trunk."""
        return self.resume(self._program.run_trunk(inputs), bank, rows)

    def resume(
        self,
        boundary: Sequence[Any],
        bank: MaskBank,
        rows: Sequence[int],  # noqa: ARG002 (the protocol's; rows share their masks)
    ) -> ThinnedRun:
        """Take up what the trunk left."""
        assert self.applies
        held = self.held(boundary)
        return ThinnedRun(self._tail, held, self._gathers, bank, self.masked, self.thinning.leads)

    def held(self, boundary: Sequence[Any]) -> dict[str, Any]:
        """What the thinned tail reads that is the same for all samples, by name."""
        names = self._program.split.boundary
        return {**self._weights, **dict(zip(names, boundary, strict=True))}

    @cached_property
    def _weights(self) -> Mapping[str, Tensor]:
        return {name: self._program.weights[name] for name in self.thinning.graph.weights}

    @cached_property
    def thinning(self) -> Thinning:
        """What of the tail is thinned."""
        return thin_tail(self._program, self._copy_cost)

    @cached_property
    def parts(self) -> Parts:
        """What is gathered of the weights."""
        return Parts(self.thinning, self._program.weights, self._program.active)

    @cached_property
    def _gathers(self) -> Gathers:
        return Gathers(self.parts, self._budget // 2)

    @cached_property
    def _tail(self) -> Executable:
        kernels = {**KERNELS, **LEADING_KERNELS} if self.thinning.leads else KERNELS
        return Executable(self.thinning.graph, self._program.device, kernels)

    @cached_property
    def masked(self) -> Mapping[str, int]:
        """Masks that the tail reads as they are, and their positions in a bank."""
        names = self.thinning.graph.inputs
        return {s.mask: i for i, s in enumerate(self._program.active) if s.mask in names}


@dataclass(frozen=True, slots=True)
class ThinnedRun:
    """The boundary values of some rows, to be taken through each sample's own network.

    Attributes:
        tail: the thinned tail.
        held: its inputs and weights that are the same for all samples.
        gathers: its inputs that are gathered.
        bank: the masks.
        masked: masks that it reads as they are, and their positions in the bank.
        leads: whether the tail takes all samples at once; vmap otherwise.
    """

    tail: Executable
    held: Mapping[str, Any]
    gathers: Gathers
    bank: MaskBank
    masked: Mapping[str, int]
    leads: bool

    def samples(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Outputs of samples `start` to `stop - 1`, each `[S, B, ...]`."""
        wanted = range(start, stop)
        masks = self.bank.draw(wanted, (0,)) if self.masked else None
        with self.gathers.chunk(self.bank, wanted, masks) as gathered:
            own = dict(gathered)
            if masks is not None:
                own.update({mask: masks[position] for mask, position in self.masked.items()})

            if self.leads:
                return self.tail({**self.held, **own})

            def sample(*values: Tensor) -> tuple[Any, ...]:
                return self.tail({**self.held, **dict(zip(own, values, strict=True))})

            outputs: tuple[Tensor, ...] = torch.func.vmap(sample)(*own.values())
        return outputs
