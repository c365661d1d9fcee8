"""Shapes and memory of a program without running it: an execution on the meta device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.execute import Executable
from mcdrop.program.graph import Graph, Node
from mcdrop.program.kernels import KERNELS, NOISE_SHAPES, SHAPES

META = torch.device("meta")
# torch keeps state of the process while it exports, or decomposes operations on the meta device.
TRACING = threading.RLock()


@dataclass(slots=True)
class Measurement:
    """What one execution on the meta device showed.

    Attributes:
        noise: shape of the noise of each mask input, rows included, by the mask's name.
        outputs: shape and type of each output, by public name.
        ranks: number of axes of each node's value.
        peak: bytes alive at the worst moment, weights and inputs left out.
    """

    noise: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    peak: int = 0


@dataclass(frozen=True, slots=True)
class _MaskName:
    name: str


class _Memory:
    """Counts bytes of distinct storages while values come and go."""

    def __init__(self, foreign: Sequence[Any]) -> None:
        self.alive: dict[str, list[tuple[int, int]]] = {}
        self.uses: dict[int, int] = {}
        self.ranks: dict[str, int] = {}
        self.now = 0
        self.peak = 0
        self._foreign = {key for value in foreign for key, _ in _storages(value)}

    def step(self, node: Node, value: Any, dead: Sequence[str]) -> None:
        if isinstance(value, Tensor):
            self.ranks[node.name] = value.ndim
        storages = [item for item in _storages(value) if item[0] not in self._foreign]
        self.alive[node.name] = storages
        for key, size in storages:
            if self.uses.get(key, 0) == 0:
                self.now += size
            self.uses[key] = self.uses.get(key, 0) + 1
        self.peak = max(self.peak, self.now)
        for name in dead:
            for key, size in self.alive.pop(name, ()):
                self.uses[key] -= 1
                if self.uses[key] == 0:
                    self.now -= size


def _storages(value: Any) -> list[tuple[int, int]]:
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        return [(storage._cdata, storage.nbytes())]  # noqa: SLF001 (identity of a storage)
    if isinstance(value, tuple | list):
        return [item for part in value for item in _storages(part)]
    return []


def measure(graph: Graph, values: Mapping[str, Any]) -> Measurement:
    """Execute a lowered graph on the meta device.

    Args:
        graph: its mask inputs are those named `mask:…`; they need no value.
        values: meta tensors (or sizes) for the other inputs and the weights.
    """
    result = Measurement()
    masks = {name: _MaskName(name) for name in graph.inputs if name.startswith("mask:")}

    def recording(op: str) -> Callable[..., Any]:
        def kernel(*args: Any) -> Any:
            position = next(i for i, arg in enumerate(args) if isinstance(arg, _MaskName))
            shape = NOISE_SHAPES[op](*args)
            result.noise[args[position].name] = shape
            dim, _, _ = args[-3:]
            ones = torch.empty((1, *_stripped(shape, dim)), device=META)
            plain = (*args[:position], ones, *args[position + 1 : -3], dim, 1, False)
            return KERNELS[op](*plain)

        return kernel

    kernels = {**KERNELS, **SHAPES, **{op: recording(op) for op in NOISE_SHAPES}}
    memory = _Memory(list(values.values()))
    with TRACING:
        outputs = Executable(graph, META, kernels)({**values, **masks}, memory)
    result.outputs = {
        public: value for (public, _), value in zip(graph.outputs, outputs, strict=True)
    }
    result.peak, result.ranks = memory.peak, memory.ranks
    return result


def _stripped(shape: tuple[int, ...], dim: int | None) -> tuple[int, ...]:
    """A mask's shape that broadcasts over axis `dim`, wherever the rows are in it."""
    return tuple(1 if i == dim else size for i, size in enumerate(shape))


def to_meta(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta tensors of the same shapes and types."""
    return {name: torch.empty_like(tensor, device=META) for name, tensor in tensors.items()}
