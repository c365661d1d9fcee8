"""What a model returns, as named tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mcdrop.capture.python_random import preserved
from mcdrop.errors import CaptureError


def flatten(value: Any) -> dict[str, Tensor]:
    """Name every tensor in a model's return value; what is not a tensor is left out.

    A tensor alone is `"output"`, entries of a tuple are `"0"`, `"1"`, …, those of a dict, a named
    tuple or a dataclass have their keys, and nested ones are joined with a dot.

    Example:
        >>> import torch
        >>> list(flatten({"logits": torch.ones(1), "states": (torch.ones(1), None)}))
        ['logits', 'states.0']
    """
    if isinstance(value, Tensor):
        return {"output": value}
    pairs = list(_walk(value, ""))
    named = dict(pairs)
    if len(named) != len(pairs):
        raise CaptureError(f"two outputs of the model have the same name: {[n for n, _ in pairs]}")
    return named


def _walk(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
        return
    for key, item in _entries(value):
        yield from _walk(item, f"{name}.{key}" if name else key)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif hasattr(value, "_fields"):
        yield from ((key, getattr(value, key)) for key in value._fields)
    elif isinstance(value, tuple | list):
        yield from ((str(i), item) for i, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))


@dataclass(frozen=True, slots=True)
class Call:
    """What one forward pass showed: names of its tensors, and whether it drew Python randomness."""

    outputs: tuple[str, ...]
    python_random: bool


class NamedOutputs(nn.Module):
    """A module that takes positional tensors and returns only the tensors of another's output.

    Args:
        model: the module to call.
        keywords: names to pass the tensors by; `None` passes them by position.
        report: told of every call (export puts attributes back after a trace).
    """

    def __init__(
        self,
        model: nn.Module,
        keywords: tuple[str, ...] | None,
        report: Callable[[Call], None],
    ) -> None:
        super().__init__()
        self.model = model
        self._keywords = keywords
        self._report = report

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        """The tensors in order.

        Raises:
            CaptureError: there is no tensor in the output.
        """
        with preserved() as moved:
            if self._keywords is None:
                value = self.model(*args)
            else:
                value = self.model(**dict(zip(self._keywords, args, strict=True)))
            drew = moved()
        tensors = flatten(value)
        if not tensors:
            raise CaptureError(
                f"{type(self.model).__name__}.forward returned {type(value).__name__} without a "
                "tensor in it; return a tensor, a tuple or a dict of tensors"
            )
        self._report(Call(tuple(tensors), drew))
        return tuple(tensors.values())
