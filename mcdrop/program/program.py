"""A captured model: its graph, its sites, its weights, and the executable forms made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mcdrop.errors import InputError, NoStochasticSiteError
from mcdrop.program import lowering
from mcdrop.program.execute import Executable
from mcdrop.program.graph import Graph
from mcdrop.program.manifest import TensorSpec
from mcdrop.program.measure import META, Measurement, measure, to_meta
from mcdrop.program.schema import dtype_of
from mcdrop.program.site import Site


@dataclass(frozen=True, eq=False)
class Program:
    """A model as an immutable graph with named sites. Made by `capture` or read from an artifact.

    Attributes:
        graph: the captured graph, in which sites are ordinary random operations.
        sites: every site found, in order of execution; disabled ones stay off.
        inputs: what the model takes, in order.
        outputs: what it returns, by public name.
        weights: parameters, buffers and constants by name; a snapshot, not the caller's tensors.
        device: where the weights are.
    """

    graph: Graph
    sites: tuple[Site, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Mapping[str, Tensor] = field(repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    def to(self, device: torch.device | str) -> Program:
        """The same program with its weights on `device`."""
        device = torch.device(device)
        if device == self.device:
            return self
        moved = {name: weight.to(device) for name, weight in self.weights.items()}
        return replace(self, weights=moved, device=device)

    def select(self, *outputs: str) -> Program:
        """The program that computes only these outputs; sites that none of them needs are gone."""
        graph = self.graph.select(outputs)
        named = {spec.name: spec for spec in self.outputs}
        return replace(
            self,
            graph=graph,
            sites=tuple(site for site in self.sites if site.node in graph),
            outputs=tuple(named[name] for name in outputs),
            weights={name: self.weights[name] for name in graph.weights},
        )

    @cached_property
    def active(self) -> tuple[Site, ...]:
        """The enabled sites, in the order of the mask inputs."""
        return tuple(site for site in self.sites if site.enabled)

    @cached_property
    def deterministic(self) -> Graph:
        """Every site off."""
        return lowering.deterministic(self.graph, self.sites)

    @cached_property
    def stochastic(self) -> Graph:
        """Every enabled site reads its mask input."""
        return lowering.stochastic(self.graph, self.sites)

    @cached_property
    def split(self) -> lowering.Split:
        """`stochastic`, cut into trunk and tail."""
        return lowering.split(self.stochastic, (site.mask for site in self.active))

    @property
    def trunk(self) -> Graph:
        """The nodes that no site reaches: computed once per input."""
        return self.split.trunk

    @property
    def tail(self) -> Graph:
        """The rest: a pure function of the boundary values and the masks."""
        return self.split.tail

    @cached_property
    def takes_one_row(self) -> bool:
        """Whether one row alone goes the way of several.

        Not so for a model with `squeeze()`, which drops a batch axis of one.
        """
        sizes = {spec.name: spec.smallest() for spec in self.inputs}
        several = self.measure(self.stochastic, self.meta_inputs(3, sizes))
        try:
            one = self.measure(self.stochastic, self.meta_inputs(1, sizes))
        except (RuntimeError, IndexError, ValueError, TypeError):
            return False
        return one.ranks == several.ranks

    def require_rows(self) -> None:
        """Raise unless axis 0 of every output is the batch.

        Raises:
            InputError: an output has something else in axis 0.
        """
        rows = 3
        sizes = {spec.name: spec.smallest() for spec in self.inputs}
        outputs = self.measure(self.deterministic, self.meta_inputs(rows, sizes)).outputs
        for name, output in outputs.items():
            if output.ndim == 0 or output.shape[0] != rows:
                raise InputError(
                    f"output {name!r} has shape {list(output.shape)} for {rows} rows; axis 0 must "
                    f"be the "
                    "batch: transpose or reshape it in the model's forward"
                )

    def require_sites(self) -> None:
        """Raise unless some enabled site reaches the outputs.

        Raises:
            NoStochasticSiteError: every sample would be the same.
        """
        reached = self.stochastic.reached_from(site.mask for site in self.active)
        if any(name in reached for _, name in self.stochastic.outputs):
            return
        if not self.sites:
            raise NoStochasticSiteError(
                "nothing random was found in the model: it has no dropout with p > 0 on the way to "
                f"output {', '.join(repr(spec.name) for spec in self.outputs)}. Add dropout "
                f"layers, "
                "or choose another output with the task's `entry`"
            )
        raise NoStochasticSiteError(
            f"none of the model's {len(self.sites)} sites is enabled on the way to the output: "
            "check the `sites` selection"
        )

    def run_deterministic(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs with every site off, by public name."""
        graph = self.deterministic
        values = self._deterministic({**inputs, **self._weights(graph)})
        return {public: value for (public, _), value in zip(graph.outputs, values, strict=True)}

    def run_trunk(self, inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """The values that cross from trunk to tail, in the order of `split.boundary`."""
        return self._trunk({**inputs, **self._trunk_weights})

    @cached_property
    def _trunk(self) -> Executable:
        return Executable(self.trunk, self.device)

    @cached_property
    def _trunk_weights(self) -> Mapping[str, Tensor]:
        return self._weights(self.trunk)

    @cached_property
    def _deterministic(self) -> Executable:
        return Executable(self.deterministic, self.device)

    def _weights(self, graph: Graph) -> dict[str, Tensor]:
        return {name: self.weights[name] for name in graph.weights}

    def meta_inputs(self, rows: int, sizes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        """Meta tensors of the declared types, `rows` of the given shapes (batch axis left out)."""
        return {
            spec.name: torch.empty(
                (rows, *sizes[spec.name]), dtype=dtype_of(spec.dtype), device=META
            )
            for spec in self.inputs
        }

    def measure(self, graph: Graph, inputs: Mapping[str, Any]) -> Measurement:
        """Shapes and peak memory of one of the program's graphs, without computing anything."""
        weights = to_meta({name: self.weights[name] for name in graph.weights})
        return measure(graph, {**inputs, **weights})
