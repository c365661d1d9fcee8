"""CUDA graphs: a chunk that comes again in the same shapes is replayed, not launched op by op."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
Replay = Callable[[], None]

_USES = 3  # a shape is recorded when it comes for the third time: recording costs a few runs
_KEPT = 8  # graphs at a time; each holds the memory of its chunk


class Recorder(Protocol):
    """Turns a call on fixed tensors into something to replay."""

    def record(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Replay]:
        """Run `call` once, and return its outputs and what renews them."""
        ...


class CudaRecorder:
    """Records with `torch.cuda.CUDAGraph`."""

    def record(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Replay]:
        """Run on a stream of its own first, as libraries set themselves up in their first call."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call()
        return outputs, graph.replay


@dataclass(frozen=True, slots=True)
class _Recorded:
    inputs: tuple[Any, ...]
    outputs: tuple[Tensor, ...]
    replay: Replay


class Graphs:
    """Runs a function of tensors, by replay once its shapes have come a few times.

    Args:
        function: pure, and without a look from the host at any value.
        recorder: `CudaRecorder`, or a stand-in to test with.
    """

    def __init__(self, function: Function, recorder: Recorder) -> None:
        self._function = function
        self._recorder = recorder
        self._uses: OrderedDict[Hashable, int] = OrderedDict()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._fails = False
        self._lock = Lock()  # a graph's inputs and outputs are in fixed places

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """The function's outputs; plain numbers among the inputs count as part of the shape."""
        if self._fails:
            return self._function(*inputs)
        with self._lock:
            return self._call(inputs)

    def _call(self, inputs: Sequence[Any]) -> tuple[Tensor, ...]:
        key = (_arithmetic(), *(_shape(value) for value in inputs))
        if key not in self._recorded:
            self._uses[key] = self._uses.pop(key, 0) + 1
            if len(self._uses) > 64 * _KEPT:
                self._uses.popitem(last=False)
            if self._uses[key] < _USES or not self._record(key, inputs):
                return self._function(*inputs)
        self._recorded.move_to_end(key)
        graph = self._recorded[key]
        for fixed, value in zip(graph.inputs, inputs, strict=True):
            if isinstance(fixed, Tensor):
                fixed.copy_(value, non_blocking=True)
        graph.replay()
        return tuple(output.clone() for output in graph.outputs)  # the next replay overwrites it

    def _record(self, key: Hashable, inputs: Sequence[Any]) -> bool:
        fixed = tuple(v.clone() if isinstance(v, Tensor) else v for v in inputs)
        try:
            outputs, replay = self._recorder.record(lambda: self._function(*fixed))
        except RuntimeError:  # an operation that looks at values cannot be recorded: go on without
            self._fails = True
            return False
        while len(self._recorded) >= _KEPT:
            self._recorded.popitem(last=False)
        self._recorded[key] = _Recorded(fixed, outputs, replay)
        return True


def _arithmetic() -> Hashable:
    """What a recorded product has been recorded with."""
    narrow = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
    matmul: Any = torch.backends.cuda.matmul
    return narrow, matmul.fp32_precision


def _shape(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.stride(), value.dtype)
    return value if isinstance(value, Hashable) else repr(value)
