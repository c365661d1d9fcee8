"""What turned out to be true, from JSON values to a tensor: numbers, or labels of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
import torch
from torch import Tensor

from mcdrop.program.manifest import Manifest
from mcdrop.tasks import Gaussian, Regression
from service.errors import InvalidRequestError

_DEEPEST = 16  # axes
_NAMED = 20
_MOST = 2**63  # int64 holds less
_LARGEST = 1e100  # whose square, over a small variance, is still a number
_NUMBERS = f"numbers up to {_LARGEST:g}"
_CLASSES = "class numbers or names"


def read_targets(manifest: Manifest, given: list[Any]) -> Tensor:
    """Targets of rows: float64 numbers, or int64 labels.

    A class is its number, which may be written as 1.0, or its name; yes and no are 1 and 0, or true
    and false.

    Args:
        manifest: of the model.
        given: nested lists, the first axis counting rows.

    Raises:
        InvalidRequestError: they are ragged, or hold what is no target of such a model. Labels that
            are numbers of no class are left to the evaluation to refuse.
    """
    if isinstance(manifest.task, Regression | Gaussian):
        return _tensor(_each(given, _number), torch.float64, _NUMBERS)
    names = {name: place for place, name in enumerate(manifest.classes or ())}
    return _tensor(_each(given, partial(_label, names=names)), torch.int64, _CLASSES)


def _tensor(values: list[Any], dtype: torch.dtype, wanted: str) -> Tensor:
    try:
        made = torch.tensor(values, dtype=dtype)
    except (ValueError, TypeError):
        raise InvalidRequestError(
            f"targets are nested lists of {wanted}; these are ragged: lists of one level need the "
            "same length"
        ) from None
    if made.numel() == 0:
        raise InvalidRequestError(f"targets are nested lists of {wanted}; got empty ones")
    return made


def _each(given: Any, read: Callable[[object], int | float], deep: int = 0) -> Any:
    """Read every leaf of nested lists of no great depth."""
    if isinstance(given, list) and deep < _DEEPEST:
        return [_each(part, read, deep + 1) for part in given]
    return read(given)


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or abs(given) > _LARGEST:
        raise _odd(given, _NUMBERS)
    return float(given)


def _label(given: object, names: Mapping[str, int]) -> int:
    if isinstance(given, str):
        if given not in names:
            known = ", ".join(list(names)[:_NAMED])
            there = f"there are: {known}" if known else "they have no names here: send numbers"
            raise InvalidRequestError(f"there is no class {given!r}; {there}")
        return names[given]
    if isinstance(given, int | float) and given == int(given) and abs(given) < _MOST:
        return int(given)
    raise _odd(given, _CLASSES)


def _odd(given: object, wanted: str) -> InvalidRequestError:
    if isinstance(given, list):
        got = f"lists more than {_DEEPEST} deep"
    else:
        got = "an object" if isinstance(given, dict) else f"{orjson.dumps(given).decode():.40}"
    return InvalidRequestError(f"targets are nested lists of {wanted}; got {got}")
