"""Finding and calling a user's factory: `MODULE:FACTORY`.

The contract: a callable without arguments that returns `(module, example_inputs)`, the example
being a tensor, a tuple of tensors, or a dict of tensors that the module takes as keywords.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mcdrop.errors import InputError, McdropError

WANTED = "a factory returns (module, example_inputs)"


@dataclass(frozen=True, slots=True)
class Built:
    """What a factory returned."""

    model: nn.Module
    example_inputs: tuple[Tensor, ...] | dict[str, Tensor]


def build(target: str) -> Built:
    """Import the module, the current folder first, and call the factory.

    Args:
        target: `package.module:factory`; the part behind the colon may have dots.

    Raises:
        InputError: `target` is malformed, or what the factory returned is not of the contract.
        McdropError: importing or calling it failed; the message says with what.
    """
    module, _, path = target.partition(":")
    if not module or not path:
        raise InputError(f"expected MODULE:FACTORY, such as nets:build; got {target!r}")
    if module.endswith(".py") or "/" in module:
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise InputError(f"expected a module's name, not a file: try {dotted}:{path}")
    factory = _find(module, path)
    if not callable(factory):
        raise InputError(f"{target} is {_kind(factory)}, not callable: {WANTED}")
    try:
        result = factory()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise McdropError(f"calling {target} failed: {_describe(error)}") from error
    return _checked(target, result)


def _find(module: str, path: str) -> Any:  # whatever the user's module holds
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise McdropError(f"importing {module} failed: {_describe(error)}") from error
        raise InputError(f"there is no module {module!r} in {here} or on the path") from error
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise McdropError(f"importing {module} failed: {_describe(error)}") from error
    for name in path.split("."):
        if not hasattr(value, name):
            raise InputError(f"the module {module!r} has no {path!r}")
        value = getattr(value, name)
    return value


def _checked(target: str, result: object) -> Built:
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise InputError(f"{target} returned {_kind(result)}: {WANTED}")
    model, inputs = result
    if not isinstance(model, nn.Module):
        raise InputError(f"{target} returned {_kind(model)} as its module: {WANTED}")
    if isinstance(inputs, Tensor):
        return Built(model, (inputs,))
    if isinstance(inputs, Mapping) and _are_tensors(inputs.values()):
        return Built(model, dict(inputs))
    if isinstance(inputs, Sequence) and _are_tensors(inputs):
        return Built(model, tuple(inputs))
    raise InputError(
        f"{target} returned {_kind(inputs)} as its example inputs; expected a tensor, or a tuple "
        "or a dict of tensors"
    )


def _are_tensors(values: Any) -> bool:  # from the user
    return len(values) > 0 and all(isinstance(value, Tensor) for value in values)


def _kind(value: object) -> str:
    if isinstance(value, tuple | list) and value:
        return f"a {type(value).__name__} of {len(value)} ({', '.join(map(_kind, value[:3]))})"
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIO" else "a"
    return "nothing" if value is None else f"{article} {name}"


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
